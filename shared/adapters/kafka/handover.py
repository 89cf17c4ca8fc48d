"""Between the thread that polls Kafka and the event loop that handles: records, shares, errors."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from shared.adapters.kafka.threads import call_back
from shared.ports.event_log import Record, TopicPartition

Share = Mapping[TopicPartition, int]
"""The partitions of a member. The number tells apart the times that it had one: a partition that
was lost and gained again has another, even if nobody looked in between."""

_FULL_RECORDS = 1_000
_FULL_BYTES = 8 * 1024 * 1024
"""Waiting in one partition, from which on no more are fetched."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Offsets to store, each for the one time that the member had the partition."""

    offsets: Mapping[TopicPartition, tuple[int, int]]
    """Partition -> offset, and the number of the share that it belongs to."""
    end: Callable[[Exception | None], None]
    """To be called once, with what went wrong. Any thread."""


@dataclass(slots=True)
class _Waiting:
    """Records of one partition that nobody has taken yet."""

    records: deque[Record] = field(default_factory=deque)
    size: int = 0

    @property
    def fill(self) -> float:
        """Return how full it is; from 1 on nothing more should come."""
        return max(len(self.records) / _FULL_RECORDS, self.size / _FULL_BYTES)

    def take(self, count: int) -> list[Record]:
        """Take the first records out."""
        if count >= len(self.records):
            taken = list(self.records)
            self.records.clear()
            self.size = 0
            return taken
        taken = [self.records.popleft() for _ in range(count)]
        self.size -= sum(_size(record) for record in taken)
        return taken


class Handover:
    """What one thread puts in and one event loop takes out."""

    def __init__(self) -> None:
        """Begin empty, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._share: Share = {}
        self._waiting: dict[TopicPartition, _Waiting] = {}
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- the thread ------------------------------------------------------------------------------

    def put(self, share: Share, records: Mapping[TopicPartition, Iterable[Record]]) -> None:
        """Say what the member has now, and add what was read of it.

        Records of partitions that it had before and lost are dropped, also where it has them again:
        they come once more, from what is committed.
        """
        with self._lock:
            for place in [p for p in self._waiting if share.get(p) != self._share.get(p)]:
                del self._waiting[place]
            self._share = share
            for place, fresh in records.items():
                waiting = self._waiting.setdefault(place, _Waiting())
                for record in fresh:
                    waiting.records.append(record)
                    waiting.size += _size(record)
            self._wake()

    def fail(self, error: Exception) -> None:
        """Let the next to take records have an error instead."""
        with self._lock:
            self._error = error
            self._wake()

    def fill(self) -> dict[TopicPartition, float]:
        """Return how full each partition is that has records waiting."""
        with self._lock:
            return {place: waiting.fill for place, waiting in self._waiting.items()}

    def _wake(self) -> None:
        """End the wait of whoever takes; the lock is held."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            call_back(self._loop, _ring, waiter)

    # --- the event loop --------------------------------------------------------------------------

    @property
    def share(self) -> Share:
        """Return what the member has now."""
        return self._share

    def take(self, known: Share, paused: Collection[TopicPartition], count: int) -> list[Record]:
        """Take records out, in order per partition; no partition waits for ever.

        Args:
            known: What the member is known to have; there is nothing of what came after that.
            paused: Partitions to leave alone.
            count: How many at most.

        Raises:
            Exception: What the thread failed with.
        """
        with self._lock:
            error, self._error = self._error, None
            if error is not None:
                raise error
            taken: list[Record] = []
            for place in self._ready(known, paused):
                waiting = self._waiting.pop(place)
                taken += waiting.take(count - len(taken))
                if waiting.records:
                    # At the end: next time it is the others' turn.
                    self._waiting[place] = waiting
                if len(taken) == count:
                    break
            return taken

    def _ready(self, known: Share, paused: Collection[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions with records to take; the lock is held."""
        return [
            place
            for place in self._waiting
            if place not in paused and known.get(place) == self._share.get(place)
        ]

    async def wait(self, known: Share, paused: Collection[TopicPartition], seconds: float) -> None:
        """Return once there is something new, at the latest after some time."""
        waiter = self._loop.create_future()
        with self._lock:
            if self._error is not None or self._share != known or self._ready(known, paused):
                return
            self._waiter = waiter
        alarm = self._loop.call_later(seconds, _ring, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            with self._lock:
                self._waiter = None

    def wake(self) -> None:
        """End a wait, because the one who waits wants something else by now."""
        with self._lock:
            self._wake()


def _ring(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _size(record: Record) -> int:
    return len(record.value or b"")
