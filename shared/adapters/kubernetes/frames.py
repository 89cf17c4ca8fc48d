"""What process 1 says in the container's log, one frame per line; entry.c writes them."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.ports.cluster import Stream

_LONGEST_LINE: Final = 64 * 1024
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_STREAMS: Final[dict[bytes, tuple[Stream, bool]]] = {
    b"o": ("stdout", False),
    b"O": ("stdout", True),
    b"e": ("stderr", False),
    b"E": ("stderr", True),
}


@dataclass(frozen=True, slots=True)
class Started:
    """The script was started."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Printed:
    """Bytes of one stream; `truncated` where the kept size is reached and more came."""

    stream: Stream
    offset: int
    data: bytes
    truncated: bool


@dataclass(frozen=True, slots=True)
class Used:
    """What was used so far; None where the kernel did not tell."""

    cpu_ns: int | None
    peak_kb: int | None


@dataclass(frozen=True, slots=True)
class Reported:
    """The report, unread."""

    text: str


Frame = Started | Printed | Used | Reported


class Lines:
    """Cuts a log into frames, whatever the chunks in which it arrives."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Begin at the beginning of a log."""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield what became whole. A line that is no frame is passed over."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = self._rest[:1]
        for line in whole:
            frame = _frame(line)
            if frame is not None:
                yield frame


def instant(nanoseconds: int) -> datetime:
    """Return a moment from the node's clock."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def number(word: str) -> int | None:
    """Return a count; None for `-`, which stands for unknown."""
    return None if word == "-" else int(word)


def _frame(line: bytes) -> Frame | None:
    kind, _, rest = line.partition(b" ")
    try:
        if kind in _STREAMS:
            offset, _, data = rest.partition(b" ")
            stream, truncated = _STREAMS[kind]
            return Printed(stream, int(offset), base64.b64decode(data, validate=True), truncated)
        if kind == b"s":
            return Started(instant(int(rest)))
        if kind == b"u":
            cpu_ns, peak_kb = rest.decode().split(" ")
            return Used(number(cpu_ns), number(peak_kb))
        if kind == b"r":
            return Reported(rest.decode())
    except (ValueError, binascii.Error):
        return None
    return None
