"""The command line as its users have it: real processes, pipes and a terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-P", "-c", "from gateway.cli import main; main()")
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands on one data directory, with nothing else in their environment."""

    folder: Path
    """Home, and the data directory below it."""
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        """Return the data directory."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a command finds in its environment."""
        return {
            "PATH": os.environ["PATH"],  # noqa: TID251 - a command needs the machine's programs
            "HOME": str(self.folder),
            "INTEGR8S_DATA_DIR": str(self.data_dir),
            "INTEGR8S_PORT": "0",
            "INTEGR8S_RATE_LIMIT_ENABLED": "false",
            **self.more,
        }

    def run(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            cwd=self.folder,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command and return."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=self.folder,
        )

    def script(self, name: str, text: str) -> str:
        """Write a script and return its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator["Terminal"]:
        """Run a command on a terminal of its own."""
        pid, descriptor = pty.fork()
        if pid == 0:
            environment = {**self.environment, "TERM": "xterm", "NO_COLOR": "1"}
            os.execve(COMMAND[0], [*COMMAND, *arguments], environment)  # noqa: S606 - no shell
        terminal = Terminal(pid, descriptor)
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A terminal with one command on it: what it shows can be waited for, keys can be pressed."""

    def __init__(self, pid: int, descriptor: int) -> None:
        """Take over a command that was just started."""
        self.shown = ""
        self._pid = pid
        self._descriptor = descriptor
        self._exit_code: int | None = None

    def wait_for(self, text: str) -> None:
        """Return when the terminal shows a text."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not re.search(text, self.shown):
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{text!r} never came; the terminal shows:\n{self.shown}")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._descriptor, b"\x03")

    def exit_code(self) -> int:
        """Return the exit code of the command once it has ended."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while self._read(end - time.monotonic()):
            pass
        if self._exit_code is None:
            _, status = os.waitpid(self._pid, 0)
            self._exit_code = os.waitstatus_to_exitcode(status)
        return self._exit_code

    def close(self) -> None:
        """End the command if it has not ended."""
        if self._exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)

    def _read(self, seconds: float) -> bool:
        """Take in what is new; say whether more may come."""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            fresh = os.read(self._descriptor, 65536)
        except OSError:  # the command is gone, and the terminal with it
            return False
        self.shown += fresh.decode(errors="replace")
        return bool(fresh)


def lines(data: bytes) -> Sequence[str]:
    """Return output as lines of text."""
    return data.decode().splitlines()
