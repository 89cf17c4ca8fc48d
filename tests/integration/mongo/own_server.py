"""A MongoDB that no other test uses, so that one may stop it."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path


class OwnServer:
    """The engine of the others, at a port and with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Choose a port that is free now."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"mongodb://127.0.0.1:{port}"
        self._settings = {
            "INTEGR8S_ENGINES_STATE": str(folder),
            "INTEGR8S_ENGINES_MONGO_PORT": str(port),
        }

    async def start(self) -> None:
        """Start it on what it kept; return once it answers."""
        await asyncio.to_thread(self._do, "start")

    async def stop(self) -> None:
        """Stop it in order."""
        await asyncio.to_thread(self._do, "stop")

    def _do(self, command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "tests.engines", command, "mongo"],
            env={**os.environ, **self._settings},  # noqa: TID251 - handed on
            check=True,
            stdout=subprocess.DEVNULL,
        )
