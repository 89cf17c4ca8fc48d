"""What of a script's output is kept, counted and said, and when: no clock, no descriptor."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shared.ports.cluster import Captured, Stream

FIRST_SECONDS: Final = 0.001
"""An unbuffered Python writes a line and its end apart; this makes them one chunk, not two."""
GATHER_SECONDS: Final = 0.1
CHUNK_BYTES: Final = 16 * 1024
CHUNKS_A_SECOND: Final = 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes of one stream, as they are said."""

    stream: Stream
    offset: int
    data: bytes
    truncated: bool


@dataclass(slots=True)
class _One:
    """One stream: bytes up to the limit, a count of all, and how far it was said."""

    kept: bytearray = field(default_factory=bytearray)
    total: int = 0
    said: int = 0
    since: float | None = None
    """When the oldest byte arrived that was not said yet."""
    cut_said: bool = False


class Capture:
    """Both streams of one run.

    The first byte of a stream is said at once, that is after a millisecond; what follows is
    gathered until it is 100 ms old or 16 KiB long. Whatever the script does, no second has more
    than ten chunks, over both streams, until the end, when everything that is left is said.
    """

    __slots__ = ("_kept_limit", "_streams", "_times", "chunks")

    def __init__(self, kept_limit: int) -> None:
        """Keep at most `kept_limit` bytes per stream."""
        self._kept_limit = kept_limit
        self._streams: dict[Stream, _One] = {"stdout": _One(), "stderr": _One()}
        self._times: deque[float] = deque(maxlen=CHUNKS_A_SECOND)
        self.chunks = 0
        """How many were taken so far."""

    @property
    def total_bytes(self) -> int:
        """Everything that was printed, over both streams."""
        return self._streams["stdout"].total + self._streams["stderr"].total

    def feed(self, stream: Stream, data: bytes, now: float) -> None:
        """Take in what was read; past the limit it only counts."""
        one = self._streams[stream]
        room = self._kept_limit - len(one.kept)
        if room > 0:
            one.kept += data if len(data) <= room else memoryview(data)[:room]
        one.total += len(data)
        if one.since is None and self._has_news(one):
            one.since = now

    def due(self) -> float | None:
        """Return from when on `take` has something to say; None while nothing waits."""
        moments = [
            moment for one in self._streams.values() if (moment := self._due(one)) is not None
        ]
        if not moments:
            return None
        if len(self._times) == CHUNKS_A_SECOND:
            return max(min(moments), self._times[0] + 1.0)
        return min(moments)

    def take(self, now: float) -> Chunk | None:
        """Return the next chunk that is due, the longest waiting stream first."""
        due = self.due()
        if due is None or due > now:
            return None
        ready = [
            (one.since, name)
            for name, one in self._streams.items()
            if one.since is not None and (self._due(one) or 0.0) <= now
        ]
        return self._cut(min(ready)[1], now)

    def rest(self, now: float) -> list[Chunk]:
        """Return everything that was not said yet: the script is dead, nothing is gathered."""
        return [
            self._cut(name, now)
            for name, one in self._streams.items()
            for _ in range(self._left(one))
        ]

    def waiting(self) -> int:
        """Return how many chunks `rest` would say now."""
        return sum(self._left(one) for one in self._streams.values())

    def captured(self, stream: Stream) -> Captured:
        """Return what a stream printed, for the end."""
        one = self._streams[stream]
        return Captured(kept=bytes(one.kept), total_bytes=one.total)

    def forget_stderr(self) -> str:
        """Drop stderr and return its text: before the script starts, it holds set-up's words."""
        text = bytes(self._streams["stderr"].kept).decode(errors="replace")
        self._streams["stderr"] = _One()
        return text

    def _is_cut(self, one: _One) -> bool:
        return one.total > len(one.kept)

    def _has_news(self, one: _One) -> bool:
        return one.said < len(one.kept) or (self._is_cut(one) and not one.cut_said)

    def _left(self, one: _One) -> int:
        """How many chunks it takes to say what is left; a cut noticed late takes an empty one."""
        if not self._has_news(one):
            return 0
        return max(1, -(-(len(one.kept) - one.said) // CHUNK_BYTES))

    def _due(self, one: _One) -> float | None:
        if one.since is None:
            return None
        if len(one.kept) - one.said >= CHUNK_BYTES:
            return one.since
        if one.said == 0:
            return one.since + FIRST_SECONDS
        return one.since + GATHER_SECONDS

    def _cut(self, stream: Stream, now: float) -> Chunk:
        one = self._streams[stream]
        offset = one.said
        data = bytes(memoryview(one.kept)[offset : offset + CHUNK_BYTES])
        one.said += len(data)
        truncated = self._is_cut(one) and one.said == len(one.kept)
        one.cut_said = one.cut_said or truncated
        one.since = now if self._has_news(one) else None
        self._times.append(now)
        self.chunks += 1
        return Chunk(stream, offset, data, truncated)
