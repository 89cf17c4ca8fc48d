"""Processes as an image starts them: `python -m gateway ...`, with their log read as it comes."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PATIENCE_SECONDS = 30.0
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Entry:
    """One process of ours, killed at the latest when the test leaves it."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], module: str = "gateway"
    ) -> None:
        """Start it; standard output and standard error are one."""
        self._name = " ".join((module, *arguments))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],  # noqa: TID251 - as every process has it
                "HOME": "/nonexistent",
                **environment,
            },
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Give the running process."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process behind, and show a failed test what it said."""
        self.kill()
        if error is not None:
            error.add_note(f"--- {self._name}\n{self.output}")

    @property
    def pid(self) -> int:
        """Return its number."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Return everything that it said so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, pattern: str, *, times: int = 1, seconds: float = _PATIENCE_SECONDS) -> str:
        """Return everything it said, once a pattern was in some of its lines, or it ended.

        Raises:
            AssertionError: The pattern did not come.
        """

        def found() -> int:
            return sum(re.search(pattern, line) is not None for line in self._lines)

        with self._news:
            self._news.wait_for(
                lambda: found() >= times or not self._reader.is_alive(), timeout=seconds
            )
            said = "".join(self._lines)
            assert found() >= times, f"{pattern!r} came {found()} times in {seconds:g} s\n{said}"
            return said

    def ended(self, seconds: float = _PATIENCE_SECONDS) -> int:
        """Return its exit code, once it has ended by itself."""
        code = self._process.wait(timeout=seconds)
        self._reader.join(timeout=seconds)
        self._close()
        return code

    def stop(self, *, seconds: float = _PATIENCE_SECONDS) -> tuple[int, float]:
        """Ask it to stop as Kubernetes does; return its exit code and the seconds that it took."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self.ended(seconds), time.monotonic() - begun

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process.poll() is None:
            self._process.kill()
            self.ended()
        self._close()

    def _close(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def get(port: int, path: str, **headers: str) -> tuple[int, Any]:
    """Return status and JSON of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
