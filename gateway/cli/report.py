"""What a starting system tells: to a terminal, to the process that started it, or to its log."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TextIO

from shared.domain.errors import StartupError

_LOG = logging.getLogger("gateway.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A system that takes requests."""

    url: str
    data_dir: str
    version: str
    seconds: float
    """From the start of the process."""
    username: str
    password: str | None = None
    """Only at the first start, and only if it was invented."""
    notes: tuple[str, ...] = ()
    """What is worth knowing about this machine."""


class Report(Protocol):
    """Is told how a start goes."""

    def part(self, name: str, seconds: float) -> None:
        """Tell that a part is up, and how long it took."""

    def ready(self, ready: Ready) -> None:
        """Tell that requests are taken."""

    def failed(self, error: StartupError) -> None:
        """Tell that it cannot start here."""

    def leaving(self) -> None:
        """Tell that it was asked to stop."""


class Terminal:
    """Lines for a person."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        """Write progress to one stream and faults to another."""
        self._out = out
        self._errors = errors

    def part(self, name: str, seconds: float) -> None:
        """Write a line."""
        self._say(f"  {name:<12}{seconds:6.2f} s")

    def ready(self, ready: Ready) -> None:
        """Write where it is, and what one needs to use it."""
        for note in ready.notes:
            self._say(f"  note: {note}")
        if ready.password is not None:
            self._say(f"  {'sign in as':<14}{ready.username}")
            self._say(f"  {'password':<14}{ready.password}   (shown this once)")
        self._say(f"integr8s {ready.version} is ready at {ready.url} after {ready.seconds:.2f} s")
        self._say(f"  {'data':<14}{ready.data_dir}")
        self._say(f"  {'run a script':<14}integr8s run FILE")

    def failed(self, error: StartupError) -> None:
        """Write the sentence and the remedy."""
        self._errors.write(f"integr8s: {error.message}\n  {error.remedy}\n")

    def leaving(self) -> None:
        """Write that it takes a moment."""
        self._say("stopping; press Ctrl-C again to stop at once")

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class Pipe:
    """One JSON object a line, for the process at the other end."""

    def __init__(self, descriptor: int) -> None:
        """Write to a descriptor that this process was given."""
        self._descriptor = descriptor

    def part(self, name: str, seconds: float) -> None:
        """Pass it on."""
        self._send({"part": name, "seconds": seconds})

    def ready(self, ready: Ready) -> None:
        """Pass it on, and hang up: from now on nobody listens."""
        self._send({"ready": asdict(ready)})
        os.close(self._descriptor)

    def failed(self, error: StartupError) -> None:
        """Pass it on."""
        self._send({"failed": error.message, "remedy": error.remedy})
        os.close(self._descriptor)

    def leaving(self) -> None:
        """Tell the log: whoever asked knows."""
        _LOG.info("stopping")

    def _send(self, line: object) -> None:
        try:
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")
        except BrokenPipeError:
            _LOG.warning("the process that started this one does not listen any more")


class Log:
    """Log records, for whatever collects them. The password of the first start goes to a file."""

    def __init__(self, data_dir: Path) -> None:
        """Keep what must not be logged in this folder."""
        self._data_dir = data_dir

    def part(self, name: str, seconds: float) -> None:
        """Log it."""
        _LOG.info("%s took %.3f s", name, seconds)

    def ready(self, ready: Ready) -> None:
        """Log it, without the password."""
        for note in ready.notes:
            _LOG.warning("%s", note)
        if ready.password is not None:
            path = self._data_dir / "admin.password"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(ready.password + "\n")
            _LOG.warning("how to sign in the first time is in %s; read it and remove it", path)
        _LOG.info("ready at %s after %.3f s", ready.url, ready.seconds)

    def failed(self, error: StartupError) -> None:
        """Log it."""
        _LOG.critical("%s %s", error.message, error.remedy)

    def leaving(self) -> None:
        """Log it."""
        _LOG.info("stopping")
