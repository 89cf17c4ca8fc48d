"""The log of events: topics, partitions, consumer groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. Records of one key keep their order."""

    topic: str
    key: bytes
    headers: Headers
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read: bytes and headers as they were written."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: Headers
    value: bytes | None

    @property
    def place(self) -> TopicPartition:
        """Return its partition."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a group is in one partition."""

    start: int
    """Offset of the oldest record that is kept."""
    end: int
    """Offset that the next record will get."""
    committed: int | None
    """Offset of the next record to handle; None before the first commit."""


class Consumer(Protocol):
    """One member of a consumer group. Not to be shared between tasks."""

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions that are this member's now; it changes only inside `poll`."""

    async def poll(self, *, timeout: timedelta, max_records: int) -> Sequence[Record]:
        """Return the next records of the assignment, or none after `timeout`.

        Order is exact per partition. A partition that this member gains starts at the committed
        offset, or at its oldest record where nothing was committed. Waiting costs no time of the
        processor.

        Raises:
            TemporaryError: The log gave no answer.
        """

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Return no records of these partitions until they are resumed."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Return records of these partitions again."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store, per partition, the offset of the next record to handle.

        Partitions that are no longer this member's are left out silently: another member goes on
        from what was committed before.

        Raises:
            TemporaryError: The log gave no answer.
        """

    async def close(self) -> None:
        """Leave the group at once, so that others take over without waiting. Commits nothing."""


class EventLog(Protocol):
    """Append records and read them in groups.

    Promised: order per key, every acknowledged record at least once to each group, committed
    offsets that outlive every process. Not promised: order across keys, or a record only once.
    """

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in this order; returns once all are acknowledged.

        Raises:
            TemporaryError: No acknowledgement; some may have been appended.
            PermanentError: A record that the log will never take.
        """

    async def join(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join a group; the first `poll` brings the assignment."""

    async def positions(
        self, group: str, topics: Sequence[str]
    ) -> Mapping[TopicPartition, Position]:
        """Return where the group stands in every partition of the topics; joins nothing.

        Raises:
            TemporaryError: No answer.
        """

    async def read(self, place: TopicPartition, *, offset: int, limit: int) -> Sequence[Record]:
        """Return records of one partition from an offset on, outside of any group."""
