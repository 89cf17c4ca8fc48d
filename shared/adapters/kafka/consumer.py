"""One member of a consumer group, as the event loop sees it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from shared.adapters.kafka.handover import Commit, Handover, Share
from shared.adapters.kafka.threads import call_back
from shared.domain.errors import EngineAway
from shared.ports.event_log import Record, TopicPartition

_COMMIT_SECONDS = 10.0


class Membership(Protocol):
    """What belongs to the group, in a thread of its own."""

    def commit(self, commit: Commit) -> None:
        """Have offsets stored, soon."""

    def leave(self) -> "asyncio.Future[None]":
        """Begin to leave; what is returned is done when we have left."""
        ...


class KafkaMember:
    """One member of a group. Not to be shared between tasks."""

    def __init__(
        self,
        membership: Membership,
        handover: Handover,
        *,
        closed: "Callable[[KafkaMember], object]",
    ) -> None:
        """Read what is handed over; `closed` is told when that comes to its end."""
        self._membership = membership
        self._handover = handover
        self._tell_closed = closed
        self._share: Share = {}
        self._paused: set[TopicPartition] = set()
        self._closed = asyncio.Event()

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions that are this member's, as of the last poll."""
        return frozenset(self._share)

    async def poll(self, *, timeout: timedelta, max_records: int) -> Sequence[Record]:
        """Return the next records of the assignment, or none after the timeout.

        Returns early, and empty, where the assignment changed. A partition that was lost and is
        back is missing from it for one poll: whoever counts its offsets has to begin anew, since
        records come again from what is committed.

        Raises:
            TemporaryError: Kafka gave no answer.
            PermanentError: Kafka refuses this member.
        """
        if self._closed.is_set():
            return ()
        if not self._follow():
            records = self._handover.take(self._share, self._paused, max_records)
            if records:
                return records
            await self._handover.wait(self._share, self._paused, timeout.total_seconds())
            if self._closed.is_set():
                return ()
            self._follow()
        return self._handover.take(self._share, self._paused, max_records)

    def _follow(self) -> bool:
        """Bring the assignment up to date; say whether it changed."""
        latest = self._handover.share
        if latest == self._share:
            return False
        came_back = {
            place for place, number in self._share.items() if latest.get(place, number) != number
        }
        self._share = {place: number for place, number in latest.items() if place not in came_back}
        self._paused.intersection_update(self._share)
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Return no records of these partitions until they are resumed."""
        self._paused.update(self._share.keys() & set(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Return records of these partitions again."""
        self._paused.difference_update(partitions)
        self._handover.wake()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store offsets of partitions that are still this member's.

        Raises:
            TemporaryError: Kafka gave no answer.
        """
        mine = {
            place: (at, self._share[place]) for place, at in offsets.items() if place in self._share
        }
        if not mine or self._closed.is_set():
            return
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[Exception | None] = loop.create_future()
        self._membership.commit(Commit(mine, partial(call_back, loop, _end, stored)))
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                error = await stored
        except TimeoutError:
            raise EngineAway("Kafka did not store a commit in time") from None
        if error is not None:
            raise error

    async def close(self) -> None:
        """Leave the group at once, so that others take over without waiting. Commits nothing."""
        await self.leave()

    def leave(self) -> "asyncio.Future[None]":
        """Begin to leave; what is returned is done when others may take over."""
        self._closed.set()
        self._share = {}
        self._paused.clear()
        self._handover.wake()
        self._tell_closed(self)
        return self._membership.leave()


def _end(stored: "asyncio.Future[Exception | None]", error: Exception | None) -> None:
    if not stored.done():
        stored.set_result(error)
