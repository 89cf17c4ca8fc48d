"""A Redis that no other test uses, so that one may stop it or change its password."""

import asyncio
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class OwnServer:
    """The engine of the others, at ports and with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Choose two ports in a row that are free now: the second is for TLS."""
        self._settings = {
            "INTEGR8S_ENGINES_STATE": str(folder),
            "INTEGR8S_ENGINES_REDIS_PORT": str(_two_free_ports()),
        }
        self.addresses: Mapping[str, str] = {}
        """The variables by which its clients reach it."""

    async def start(self) -> None:
        """Start it with the password that it had; return once it answers."""
        await self._do("start", "redis")
        told = (await self._do("env")).replace("export ", "")
        self.addresses = dict(pair.split("=", 1) for pair in shlex.split(told))

    async def stop(self) -> None:
        """Stop it."""
        await self._do("stop", "redis")

    async def _do(self, *arguments: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tests.engines", *arguments],
            env={**os.environ, **self._settings},  # noqa: TID251 - handed on
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout


def _two_free_ports() -> int:
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
