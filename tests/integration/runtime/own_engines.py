"""Engines that no other test uses: our processes know no names but the real ones of topics."""

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.cli.entries import ROOT

NAMES = ("kafka", "mongo", "redis")
_PORTS = {"kafka": 3, "mongo": 1, "redis": 2}


class OwnEngines:
    """Kafka, MongoDB and Redis at ports and with a folder of their own."""

    def __init__(self, folder: Path) -> None:
        """Choose ports that are free now."""
        self._folder = folder
        self._settings = {"INTEGR8S_ENGINES_STATE": str(folder)}
        self.addresses: Mapping[str, str] = {}
        """The variables by which clients reach them, once all have been started."""
        port = _free_ports(sum(_PORTS.values()))
        for name, count in _PORTS.items():
            self._settings[f"INTEGR8S_ENGINES_{name.upper()}_PORT"] = str(port)
            port += count

    def start(self, *names: str) -> None:
        """Start engines on what they kept; return once they answer."""
        self._do("start", *names)
        if not self.addresses:
            told = self._do("env", *NAMES).replace("export ", "")
            self.addresses = dict(pair.split("=", 1) for pair in shlex.split(told))

    def stop(self, *names: str) -> None:
        """Stop engines in order."""
        self._do("stop", *names)

    def wipe(self, *names: str) -> None:
        """Start engines anew, with nothing of what they kept."""
        self._do("stop", "--wipe", *names)
        self.start(*names)

    def kill(self, name: str) -> None:
        """End an engine as a power switch would."""
        self._send(name, signal.SIGKILL)
        self.stop(name)  # which tidies up after the dead

    def pause(self, name: str) -> None:
        """Let an engine hang."""
        self._send(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._send(name, signal.SIGCONT)

    def _send(self, name: str, number: signal.Signals) -> None:
        record = json.loads((self._folder / "run" / f"{name}.json").read_text())
        os.kill(record["pid"], number)

    def _do(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engines", *arguments],
            cwd=ROOT,
            env={**os.environ, **self._settings},  # noqa: TID251 - handed on
            check=False,
            capture_output=True,
            text=True,
        )
        assert not done.returncode, done.stdout + done.stderr
        return done.stdout


def _free_ports(count: int) -> int:
    """Return the first of some ports in a row that nobody listens on.

    Not among those that the kernel gives to clients: one of them may be gone a moment later.
    """
    while True:
        first = 20_000 + secrets.randbelow(10_000)
        with ExitStack() as opened:
            try:
                for port in range(first, first + count):
                    opened.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
