"""How far an execution is: one live line on a terminal, plain lines elsewhere, on stderr only."""

from datetime import datetime
from typing import Protocol, TextIO

from gateway.cli.verdict import seconds

ORDER = ("queued", "scheduled", "launching", "running", "stored")
_DIM, _BOLD, _RED, _GREEN, _OFF = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"
_ERASE = "\r\x1b[2K"


class Phases(Protocol):
    """Shows how far an execution is."""

    def reached(self, phase: str, at: datetime, note: str = "") -> None:
        """Tell that a phase began; one that was told before is told again with a new note only."""

    def note(self, text: str) -> None:
        """Say something beside."""

    def make_room(self) -> None:
        """Let the script's own output have the terminal."""

    def finish(self, sentence: str, *, good: bool) -> None:
        """Say how it ended."""


class Silence:
    """Says nothing, for `--quiet`."""

    def reached(self, phase: str, at: datetime, note: str = "") -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def make_room(self) -> None:
        """Take no room."""

    def finish(self, sentence: str, *, good: bool) -> None:
        """Say nothing."""


class Lines:
    """One line per phase, for files and pipes."""

    def __init__(self, out: TextIO) -> None:
        """Write to a stream of text."""
        self._out = out
        self._begun: datetime | None = None
        self._reached: dict[str, str] = {}

    def reached(self, phase: str, at: datetime, note: str = "") -> None:
        """Write the phase and the time since the request."""
        if not _is_news(self._reached, phase, note):
            return
        self._reached[phase] = note
        self._begun = self._begun or at
        beside = f"  {note}" if note else ""
        self.note(f"{phase:<10} +{_since(self._begun, at)}{beside}")

    def note(self, text: str) -> None:
        """Write a line of ours."""
        self._out.write(f"integr8s: {text}\n")
        self._out.flush()

    def make_room(self) -> None:
        """Nothing is in the way."""

    def finish(self, sentence: str, *, good: bool) -> None:  # noqa: ARG002 - no colours here
        """Write how it ended."""
        self.note(sentence)


class LiveLine:
    """All phases on one line, rewritten as they come.

    The line is left as it stands when the script prints something: the terminal is then the
    script's, and the rest is told at the end.
    """

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        """Write to a terminal."""
        self._out = out
        self._colour = colour
        self._begun: datetime | None = None
        self._parts: dict[str, str] = {}
        self._reached: dict[str, str] = {}
        self._is_open = False
        self._gave_way = False

    def reached(self, phase: str, at: datetime, note: str = "") -> None:
        """Add a phase to the line."""
        if not _is_news(self._reached, phase, note):
            return
        self._reached[phase] = note
        self._begun = self._begun or at
        beside = f" {note}" if note else ""
        self._parts[phase] = f"{phase}{beside} {self._paint(_DIM, _since(self._begun, at))}"
        if not self._gave_way:
            self._draw()

    def _draw(self) -> None:
        arrow = self._paint(_DIM, " > ")
        self._out.write(_ERASE + arrow.join(self._parts.values()))
        self._out.flush()
        self._is_open = True

    def note(self, text: str) -> None:
        """Write a line of its own and go on below."""
        self._close()
        self._out.write(self._paint(_DIM, text) + "\n")
        self._out.flush()

    def make_room(self) -> None:
        """End the line; what comes later is told by `finish`."""
        self._gave_way = True
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._out.write("\n")
            self._out.flush()
            self._is_open = False

    def finish(self, sentence: str, *, good: bool) -> None:
        """Say how it ended, and what the line had no room for."""
        self._close()
        stored = self._parts.get("stored", "")
        rest = f"  {stored}" if stored and self._gave_way else ""
        self._out.write(self._paint(_GREEN if good else _RED, sentence) + rest + "\n")
        self._out.flush()

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colour else text


def _is_news(reached: dict[str, str], phase: str, note: str) -> bool:
    if phase not in reached:
        return True
    return note not in ("", reached[phase]) and next(reversed(reached)) == phase


def _since(begun: datetime, at: datetime) -> str:
    return seconds(max(0.0, (at - begun).total_seconds()))
