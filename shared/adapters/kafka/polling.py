"""The thread that owns a member's driver: it polls, and nobody else touches it.

The driver does not complain about a second thread, it corrupts; and it leaves the group when nobody
polls. So this thread polls all the time, also while the event loop handles what it was given, and
whatever else is to be done, commits above all, is done by it between two polls.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as Place
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import MemberState

from shared.adapters.kafka.errors import MOVED, failed
from shared.adapters.kafka.handover import Commit, Handover
from shared.adapters.kafka.options import KafkaOptions, milliseconds
from shared.adapters.kafka.pace import Pace
from shared.adapters.kafka.records import record_of
from shared.adapters.kafka.threads import call_back
from shared.domain.errors import EngineAway, Integr8sError
from shared.ports.event_log import TopicPartition

_LOG = logging.getLogger(__name__)

_JOINING_MS = 100
_POLL_MS = 250
"""How long a poll lasts at most, which is how long a commit waits for its turn at worst. Records
end a poll at once, so the long one costs no time, and a member that idles next to no processor; of
a first share we only know when a poll has ended."""
_NOTHING_SECONDS = 0.05
_RESUME_BELOW = 0.5
_MAX_RECORDS = 500
_MAX_POLL_INTERVAL_MS = 60_000
"""Also how long others wait, when the group is shared out anew, for a member that hangs."""
_ANSWER_MS = 2_000
_REQUEST_MS = 15_000
_RETRY_MS = 20
"""Joining takes steps that are tried again: with the driver's own 100 ms it lasts twice as long."""
_REST_SECONDS = 1.0


class _Rebalances(AsyncConsumerRebalanceListener):
    """Writes down what the group decides. It is called in the driver's own thread."""

    def __init__(self) -> None:
        self.seen: queue.SimpleQueue[frozenset[Place]] = queue.SimpleQueue()
        """Each new share; none at all where membership was lost."""

    async def on_partitions_revoked(self, revoked: Iterable[Place]) -> None:
        """Do nothing: those that stay ours go on without a break, others are known later."""

    async def on_partitions_lost(self, lost: Iterable[Place]) -> None:  # noqa: ARG002 - it is all
        self.seen.put(frozenset())

    async def on_partitions_assigned(self, assigned: Iterable[Place]) -> None:
        self.seen.put(frozenset(assigned))


class PollThread:
    """One member of a group, from joining to leaving."""

    def __init__(
        self, options: KafkaOptions, group: str, topics: Sequence[str], handover: Handover
    ) -> None:
        """Prepare; `start` joins."""
        self._options = options
        self._group = options.name(group)
        self._topics = {options.name(topic): topic for topic in topics}
        self._handover = handover
        self._loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[Integr8sError | None] = self._loop.create_future()
        """Done with the first share, or with why there is none."""
        self.is_reached = False
        """Whether the group knows of this member, though it may not have a share yet."""
        self._left: asyncio.Future[None] = self._loop.create_future()
        self._leaving = False
        self._messages: queue.SimpleQueue[Commit | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{group}", daemon=True)
        self._commits: list[Commit] = []
        self._share: dict[Place, int] = {}
        self._gains = 0
        self._beginnings: dict[Place, int | None] = {}
        """Where gained partitions begin, as far as that is known, until it is committed."""
        self._commit_beginnings_at = 0.0
        self._held: set[Place] = set()
        """Not fetched, because enough of them waits to be taken."""
        self._pace = Pace()

    # --- the event loop --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to join."""
        self._thread.start()

    def commit(self, commit: Commit) -> None:
        """Have offsets stored between two polls."""
        self._messages.put(commit)

    def leave(self) -> "asyncio.Future[None]":
        """Begin to leave; what is returned is done when we have left."""
        self._leaving = True
        self._messages.put(None)
        return asyncio.shield(self._left)

    # --- the thread: one membership after the other ----------------------------------------------

    def _run(self) -> None:
        try:
            while not self._leaving:
                try:
                    self._belong()
                except Exception as error:  # noqa: BLE001 - whatever it is, a new driver may do better
                    self._failed(error)
        finally:
            self._lose()
            self._serve_messages()
            self._end_commits(None)
            self._tell(self._left, None)

    def _failed(self, error: Exception) -> None:
        """Tell of an error, and rest a little before joining anew with a new driver."""
        if isinstance(error, Integr8sError):
            told = error
        elif isinstance(error, KafkaError):
            told = failed("a member of a group", error)
        else:
            _LOG.error("the driver of %s is broken", self._group, exc_info=error)
            told = EngineAway(f"the driver failed: {error!r}")
        self._lose()
        self._handover.fail(told)
        self._tell(self.joined, told)
        rested_at = time.monotonic() + _REST_SECONDS
        while not self._leaving and (left := rested_at - time.monotonic()) > 0:
            self._serve_messages(wait=left)
            self._end_commits(None)

    def _lose(self) -> None:
        """Own nothing from now on."""
        self._share.clear()
        self._beginnings.clear()
        self._held.clear()
        self._handover.put({}, {})

    def _belong(self) -> None:
        """Be a member until asked to leave."""
        rebalances = _Rebalances()
        consumer = self._new(rebalances)
        try:
            self._poll(consumer, rebalances)
        finally:
            consumer.close(autocommit=False, timeout_ms=_ANSWER_MS)

    def _new(self, rebalances: _Rebalances) -> KafkaConsumer:
        consumer = KafkaConsumer(
            **{**self._options.client(), "client_id": self._group},
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=milliseconds(self._options.session),
            heartbeat_interval_ms=milliseconds(self._options.heartbeat),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            request_timeout_ms=_REQUEST_MS,
            retry_backoff_ms=_RETRY_MS,
            metrics_enabled=False,
        )
        consumer.subscribe(topics=list(self._topics), listener=rebalances)
        return consumer

    def _poll(self, consumer: KafkaConsumer, rebalances: _Rebalances) -> None:
        while not self._leaving:
            self._remind(consumer)
            self._go_on_joining(consumer)
            if self._has_nothing_to_fetch(consumer):
                # The driver would look again and again for as long as it may.
                self._serve_messages(wait=_NOTHING_SECONDS)
                found = consumer.poll(0, _MAX_RECORDS)
            else:
                found = consumer.poll(_POLL_MS if self.joined.done() else _JOINING_MS, _MAX_RECORDS)
            is_shared_anew = self._take_note(rebalances)
            read_at = time.monotonic()
            if found or is_shared_anew:
                self._deliver(found)
            if is_shared_anew:
                self._check_topics(consumer)
                self._tell(self.joined, None)
            self._reached(consumer)
            self._commit_beginnings(consumer, found)
            self._hold_back(consumer)
            self._serve_messages()
            self._commit(consumer)
            if found:
                pause = self._pace.rest(read_at, sum(map(len, found.values())))
                if (rest := read_at + pause - time.monotonic()) > 0:
                    self._serve_messages(wait=rest)

    def _has_nothing_to_fetch(self, consumer: KafkaConsumer) -> bool:
        return (
            len(self._held) == len(self._share)
            and consumer.group_metadata().state == MemberState.STABLE
        )

    # --- the thread: one round -------------------------------------------------------------------

    def _take_note(self, rebalances: _Rebalances) -> bool:
        """Take note of what the group decided during a poll; say whether it did.

        What stays ours keeps its number, and with the driver its place. After membership was lost
        the driver begins at what is committed, also where it gets the same partitions back.
        """
        if rebalances.seen.empty():
            return False
        while not rebalances.seen.empty():
            assigned = rebalances.seen.get()
            for place in [place for place in self._share if place not in assigned]:
                del self._share[place]
                self._beginnings.pop(place, None)
                self._held.discard(place)
            for place in assigned - self._share.keys():
                self._gains += 1
                self._share[place] = self._gains
                self._beginnings[place] = None
        return True

    def _deliver(self, found: Mapping[Place, Sequence[Any]]) -> None:
        share = {self._ours(place): number for place, number in self._share.items()}
        self._handover.put(
            share,
            {
                self._ours(place): [record_of(one, self._topics[place.topic]) for one in records]
                for place, records in found.items()
            },
        )

    def _ours(self, place: Place) -> TopicPartition:
        return TopicPartition(self._topics[place.topic], place.partition)

    def _check_topics(self, consumer: KafkaConsumer) -> None:
        """Make sure that no topic is missing: its share would be empty, and nobody would know."""
        here = {place.topic for place in self._share}
        for topic in self._topics.keys() - here:
            if not consumer.partitions_for_topic(topic):
                raise EngineAway(f"Kafka has no topic {topic}: make it by `integr8s topics apply`")

    def _reached(self, consumer: KafkaConsumer) -> None:
        if not self.is_reached:
            self.is_reached = consumer.group_metadata().state != MemberState.UNJOINED

    def _hold_back(self, consumer: KafkaConsumer) -> None:
        """Fetch no more of what nobody takes, and go on when most of it is taken."""
        fill = self._handover.fill()
        if not fill and not self._held:
            return
        for place in self._share:
            level = fill.get(self._ours(place), 0.0)
            if level >= 1 and place not in self._held:
                consumer.pause(place)
                self._held.add(place)
            elif level < _RESUME_BELOW and place in self._held:
                consumer.resume(place)
                self._held.discard(place)

    @staticmethod
    def _remind(consumer: KafkaConsumer) -> None:
        """Let the driver look at what it put aside when a partition was paused.

        It does so only where it has never read of another partition since, and neither fetches what
        it has put aside: such a partition would stand still for ever.
        """
        fetcher = consumer._fetcher  # noqa: SLF001 - there is no other way to its memory
        if fetcher._next_partition_records is not None and not fetcher._next_partition_records:  # noqa: SLF001
            fetcher._next_partition_records = None  # noqa: SLF001

    @staticmethod
    def _go_on_joining(consumer: KafkaConsumer) -> None:
        """Let the driver take up a join again that the end of a poll cut off.

        It joins anew where topics look other than at its last assignment, and sees no reason for it
        any more as soon as it has assigned them itself. Where a poll ends between that and the
        broker's answer, nobody takes the answer: it would own nothing, say no word and turn in
        circles for ever.
        """
        coordinator = consumer._coordinator  # noqa: SLF001 - there is no other way to its state
        if coordinator.rejoining and not coordinator.rejoin_needed:
            coordinator.request_rejoin()

    # --- the thread: commits ---------------------------------------------------------------------

    def _serve_messages(self, *, wait: float = 0.0) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._messages.get(timeout=wait) if wait else self._messages.get_nowait()
                if message is not None:
                    self._commits.append(message)
                wait = 0.0

    def _commit(self, consumer: KafkaConsumer) -> None:
        """Store what is still ours to store; while the group is shared out it waits."""
        if not self._commits:
            return
        offsets: dict[Place, int] = {}
        for commit in self._commits:
            for (topic, partition), (offset, number) in commit.offsets.items():
                place = Place(self._options.name(topic), partition)
                if self._share.get(place) == number:
                    offsets[place] = offset
        try:
            self._store(consumer, offsets)
        except MOVED:
            return
        except KafkaError as error:
            self._end_commits(failed("a commit", error))
            return
        for place in offsets:
            self._beginnings.pop(place, None)
        self._end_commits(None)

    def _commit_beginnings(
        self, consumer: KafkaConsumer, found: Mapping[Place, Sequence[Any]]
    ) -> None:
        """Commit where gained partitions begin: from then on the lag that others see is real."""
        if not self._beginnings:
            return
        # What is in hand is behind the driver's position already, and must not count as handled.
        for place, records in found.items():
            if place in self._beginnings and self._beginnings[place] is None:
                self._beginnings[place] = records[0].offset
        if time.monotonic() < self._commit_beginnings_at:
            return
        try:
            for place in [place for place, at in self._beginnings.items() if at is None]:
                self._beginnings[place] = consumer.position(place, timeout_ms=0)
            offsets = {place: at for place, at in self._beginnings.items() if at is not None}
            self._store(consumer, offsets)
        except KafkaError as error:
            # Nobody waits for these; the next commit of the same partition does as well.
            _LOG.debug("%s could not commit where it begins: %r", self._group, error)
            self._commit_beginnings_at = time.monotonic() + _REST_SECONDS
            return
        for place in offsets:
            del self._beginnings[place]

    def _store(self, consumer: KafkaConsumer, offsets: Mapping[Place, int]) -> None:
        if offsets:
            consumer.commit(
                {place: OffsetAndMetadata(at, "", -1) for place, at in offsets.items()},
                timeout_ms=_ANSWER_MS,
            )

    def _end_commits(self, error: Exception | None) -> None:
        commits, self._commits = self._commits, []
        for commit in commits:
            commit.end(error)

    def _tell(self, future: "asyncio.Future[Any]", result: object) -> None:
        call_back(self._loop, _end, future, result)


def _end(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)
