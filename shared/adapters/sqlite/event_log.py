"""The log in SQLite: partitions, consumer groups, committed offsets, for one process.

New records are also kept in memory for a while, so that the groups that keep up, which is all of
them on a healthy day, read nothing from the database. A consumer that waits is woken by the commit
of a record; nothing is ever polled.
"""

import asyncio
import heapq
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgpack

from shared.adapters.sqlite.store import SqliteStore
from shared.domain.errors import PermanentError
from shared.events.topics import TOPICS, Topic
from shared.ports.clock import Clock
from shared.ports.event_log import NewRecord, Position, Record, TopicPartition

_TAIL_RECORDS = 512
_TAIL_BYTES = 512 * 1024
"""Kept in memory per partition at most."""
_OFFSET_BITS = 44
"""A record's rowid is topic, partition and offset: one partition lies together, in order."""


@dataclass(slots=True)
class _Partition:
    """One partition: where it starts and ends, and its newest records."""

    base: int
    start: int
    end: int
    written: int
    """End of what is in the database but perhaps not committed yet."""
    tail: "deque[tuple[int, Record]]" = field(default_factory=deque)
    tail_bytes: int = 0

    def remember(self, order: int, record: Record) -> None:
        """Keep a record in memory, and let the oldest go."""
        self.tail.append((order, record))
        self.tail_bytes += len(record.value or b"")
        while len(self.tail) > _TAIL_RECORDS or self.tail_bytes > _TAIL_BYTES:
            _, oldest = self.tail.popleft()
            self.tail_bytes -= len(oldest.value or b"")


@dataclass(slots=True)
class _Group:
    """One consumer group: its members, and what each of them owns."""

    members: "list[SqliteConsumer]" = field(default_factory=list)
    generation: int = 0


class SqliteEventLog:
    """Append and read records of the topics of the catalogue."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        """Make the tables where they are missing, and read where every partition stands."""
        self._store = store
        self._clock = clock
        self._order = itertools.count()
        self._groups: dict[str, _Group] = {}
        self._listeners: list[Callable[[set[str]], None]] = []
        self._numbers = {topic.value: number for number, topic in enumerate(Topic, start=1)}
        connection = store.connection
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, key BLOB,"
            " headers BLOB NOT NULL, value BLOB, at INTEGER NOT NULL)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS offsets (grp TEXT, topic TEXT, part INTEGER,"
            " committed INTEGER NOT NULL, PRIMARY KEY (grp, topic, part)) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS ends (topic TEXT, part INTEGER, at INTEGER NOT NULL,"
            " PRIMARY KEY (topic, part)) WITHOUT ROWID"
        )
        self._partitions = {
            TopicPartition(topic.value, number): self._load(topic.value, number)
            for topic, spec in TOPICS.items()
            for number in range(spec.partitions)
        }
        self._committed: dict[tuple[str, TopicPartition], int] = {
            (group, TopicPartition(topic, part)): offset
            for group, topic, part, offset in connection.execute(
                "SELECT grp, topic, part, committed FROM offsets"
            )
        }

    def _load(self, topic: str, number: int) -> _Partition:
        base = (self._numbers[topic] << 8 | number) << _OFFSET_BITS
        low, high = self._store.connection.execute(
            "SELECT min(id), max(id) FROM records WHERE id >= ? AND id < ?",
            (base, base + (1 << _OFFSET_BITS)),
        ).fetchone()
        # A partition whose records have all aged out goes on counting where it was.
        (kept,) = self._store.connection.execute(
            "SELECT coalesce(max(at), 0) FROM ends WHERE topic = ? AND part = ?", (topic, number)
        ).fetchone()
        end = kept if high is None else high - base + 1
        start = end if low is None else low - base
        return _Partition(base=base, start=start, end=end, written=end)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in this order; returns once all are committed."""
        self.check(records)
        self.write(records)
        await self._store.committed()

    def check(self, records: Sequence[NewRecord]) -> None:
        """Refuse records that the log will never take, before anything is written.

        Raises:
            PermanentError: There is no such topic, or a record is too large for it.
        """
        for new in records:
            spec = TOPICS.get(Topic(new.topic)) if new.topic in self._numbers else None
            if spec is None:
                raise PermanentError(f"there is no topic {new.topic}")
            if len(new.value or b"") > spec.max_message_bytes:
                raise PermanentError(
                    f"a record of {len(new.value or b'')} bytes is over the limit of"
                    f" {spec.max_message_bytes} of the topic {new.topic}"
                )

    def write(self, records: Sequence[NewRecord]) -> None:
        """Write checked records in the store's current batch; read once that is committed."""
        at = int(self._clock.now().timestamp())
        rows = []
        fresh: list[tuple[_Partition, Record]] = []
        # First, because it may fail, and what is counted below is only taken back by `_forget`.
        self._store.after_commit(lambda: self._publish(fresh), lambda: self._forget(fresh))
        for new in records:
            number = zlib.crc32(new.key) % TOPICS[Topic(new.topic)].partitions
            partition = self._partitions[TopicPartition(new.topic, number)]
            record = Record(new.topic, number, partition.written, new.key, new.headers, new.value)
            partition.written += 1
            headers = msgpack.packb(new.headers)
            rows.append((partition.base + record.offset, new.key, headers, new.value, at))
            fresh.append((partition, record))
        self._store.write_many("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)

    def _publish(self, fresh: Sequence[tuple[_Partition, Record]]) -> None:
        for partition, record in fresh:
            partition.remember(next(self._order), record)
            partition.end = record.offset + 1
        self._wake({record.place for _, record in fresh})

    @staticmethod
    def _forget(fresh: Sequence[tuple[_Partition, Record]]) -> None:
        for partition, _ in fresh:
            partition.written = partition.end

    def listen(self, listener: Callable[[set[str]], None]) -> None:
        """Tell somebody in this process, at each commit, which topics have new records."""
        self._listeners.append(listener)

    def _wake(self, places: set[TopicPartition]) -> None:
        topics = {place.topic for place in places}
        for listener in self._listeners:
            listener(topics)
        for group in self._groups.values():
            for member in group.members:
                if not topics.isdisjoint(member.topics):
                    member.arrived(places)

    async def join(self, group: str, topics: Sequence[str]) -> "SqliteConsumer":
        """Join a group; the first poll brings the assignment."""
        state = self._groups.setdefault(group, _Group())
        member = SqliteConsumer(self, group, tuple(topics))
        state.members.append(member)
        self._rebalance(state)
        return member

    def leave(self, group: str, member: "SqliteConsumer") -> None:
        """Take a member out of its group and share its partitions among the others."""
        state = self._groups[group]
        if member in state.members:
            state.members.remove(member)
            self._rebalance(state)

    def _rebalance(self, state: _Group) -> None:
        """Share every topic out by ranges among the members that want it, as Kafka does."""
        state.generation += 1
        shares: dict[SqliteConsumer, set[TopicPartition]] = {m: set() for m in state.members}
        for topic in dict.fromkeys(t for member in state.members for t in member.topics):
            members = [member for member in state.members if topic in member.topics]
            count = TOPICS[Topic(topic)].partitions
            each, extra = divmod(count, len(members))
            first = 0
            for position, member in enumerate(members):
                size = each + (position < extra)
                shares[member] |= {TopicPartition(topic, n) for n in range(first, first + size)}
                first += size
        for member, share in shares.items():
            member.assign(frozenset(share))

    def owns(self, group: str, member: "SqliteConsumer") -> bool:
        """Say whether a member is still in its group."""
        return member in self._groups[group].members

    async def positions(
        self, group: str, topics: Sequence[str]
    ) -> Mapping[TopicPartition, Position]:
        """Return where the group stands in every partition of the topics."""
        return {
            place: Position(
                start=partition.start,
                end=partition.end,
                committed=self._committed.get((group, place)),
            )
            for place, partition in self._partitions.items()
            if place.topic in topics
        }

    def committed(self, group: str, place: TopicPartition) -> int:
        """Return where a group goes on in a partition: at its commit, else at the oldest record."""
        partition = self._partitions[place]
        return max(self._committed.get((group, place), 0), partition.start)

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the offsets of a group."""
        if not offsets:
            return
        self._store.write_many(
            "INSERT INTO offsets VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET committed = excluded.committed",
            [(group, place.topic, place.partition, at) for place, at in offsets.items()],
        )
        await self._store.committed()
        self._committed.update({(group, place): at for place, at in offsets.items()})

    async def commit_starts(self, group: str, places: Iterable[TopicPartition]) -> None:
        """Commit the oldest record of partitions in which the group never committed."""
        fresh = [place for place in places if (group, place) not in self._committed]
        await self.commit(group, {place: self._partitions[place].start for place in fresh})

    async def read(self, place: TopicPartition, *, offset: int, limit: int) -> Sequence[Record]:
        """Return records of one partition from an offset on."""
        return [record for _, record in self.after(place, offset, limit)]

    def after(self, place: TopicPartition, offset: int, limit: int) -> list[tuple[int, Record]]:
        """Return committed records from an offset on, each with its order among all partitions."""
        partition = self._partitions[place]
        if offset >= partition.end:
            return []
        tail = partition.tail
        if tail and tail[0][1].offset <= offset:
            skipped = offset - tail[0][1].offset
            return list(itertools.islice(tail, skipped, skipped + limit))
        rows = self._store.query(
            "SELECT id, key, headers, value FROM records WHERE id >= ? AND id < ? LIMIT ?",
            (partition.base + offset, partition.base + partition.end, limit),
        )
        return [
            (
                -1,
                Record(
                    place.topic,
                    place.partition,
                    row[0] - partition.base,
                    row[1],
                    tuple((name, value) for name, value in msgpack.unpackb(row[2])),
                    row[3],
                ),
            )
            for row in rows
        ]

    async def trim(self) -> int:
        """Drop records that are past the retention of their topic; return how many."""
        now = self._clock.now()
        dropped = 0
        for place, partition in self._partitions.items():
            retention = TOPICS[Topic(place.topic)].retention
            oldest = int((now - retention).timestamp())
            rows = self._store.query(
                "SELECT id FROM records WHERE id >= ? AND id < ? AND at >= ? LIMIT 1",
                (partition.base + partition.start, partition.base + partition.end, oldest),
            ).fetchone()
            keep = partition.end if rows is None else rows[0] - partition.base
            if keep == partition.start:
                continue
            self._store.write(
                "DELETE FROM records WHERE id >= ? AND id < ?",
                (partition.base + partition.start, partition.base + keep),
            )
            self._store.write(
                "INSERT INTO ends VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
                (place.topic, place.partition, partition.end),
            )
            await self._store.committed()
            dropped += keep - partition.start
            partition.start = keep
            while partition.tail and partition.tail[0][1].offset < keep:
                _, record = partition.tail.popleft()
                partition.tail_bytes -= len(record.value or b"")
        return dropped


class SqliteConsumer:
    """One member of a group."""

    def __init__(self, log: SqliteEventLog, group: str, topics: tuple[str, ...]) -> None:
        """Belong to a group; the log assigns partitions."""
        self._log = log
        self._group = group
        self.topics = topics
        self._granted: frozenset[TopicPartition] = frozenset()
        self._assignment: frozenset[TopicPartition] = frozenset()
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._ready: set[TopicPartition] = set()
        """Partitions that may have records past our position; all others are known to have none."""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions that are this member's, as of the last poll."""
        return self._assignment

    def assign(self, partitions: frozenset[TopicPartition]) -> None:
        """Take note of a new share; it counts from the next poll on."""
        self._granted = partitions
        self.wake()

    def arrived(self, places: set[TopicPartition]) -> None:
        """Take note of partitions that have new records."""
        mine = places & self._assignment
        if mine:
            self._ready |= mine
            self.wake()

    def wake(self) -> None:
        """End a waiting poll."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def poll(self, *, timeout: timedelta, max_records: int) -> Sequence[Record]:
        """Return the next records of the assignment, or none after the timeout."""
        if await self._take_assignment():
            return self._collect(max_records)
        records = self._collect(max_records)
        if records:
            return records
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        alarm = loop.call_later(timeout.total_seconds(), self.wake)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None
        await self._take_assignment()
        return self._collect(max_records)

    async def _take_assignment(self) -> bool:
        """Take over what was granted; say whether that is something new.

        Positions are committed on gain: from then on the lag that an autoscaler sees is real.
        """
        if self._granted == self._assignment:
            return False
        granted = self._granted
        await self._log.commit_starts(self._group, granted - self._assignment)
        if self._granted != granted:
            # Shared out anew meanwhile: what was granted then may be somebody else's now.
            return await self._take_assignment()
        for place in granted - self._assignment:
            self._next[place] = self._log.committed(self._group, place)
        for place in self._assignment - granted:
            self._next.pop(place, None)
            self._paused.discard(place)
        self._assignment = granted
        self._ready = set(self._assignment)
        return True

    def _collect(self, max_records: int) -> list[Record]:
        found = []
        for place in sorted(self._ready - self._paused):
            records = self._log.after(place, self._next[place], max_records)
            if records:
                found.append(records)
            else:
                self._ready.discard(place)
        if not found:
            return []
        # As they were appended, where that is known: what happened first is handled first.
        merged = found[0] if len(found) == 1 else heapq.merge(*found, key=lambda pair: pair[0])
        taken = [record for _, record in itertools.islice(merged, max_records)]
        for record in taken:
            self._next[record.place] = record.offset + 1
        return taken

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Return no records of these partitions until they are resumed."""
        self._paused.update(self._assignment.intersection(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Return records of these partitions again."""
        self._paused.difference_update(partitions)
        self.wake()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store offsets of partitions that are still this member's."""
        mine = {place: at for place, at in offsets.items() if place in self._granted}
        if self._log.owns(self._group, self):
            await self._log.commit(self._group, mine)

    async def close(self) -> None:
        """Leave the group at once."""
        self._log.leave(self._group, self)
        self._granted = self._assignment = frozenset()
        self._next.clear()
        self._ready.clear()
        self.wake()
