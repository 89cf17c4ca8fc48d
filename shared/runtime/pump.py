"""The consumer loop of one replica of a function.

Records of one key stay in order in a lane of their own; lanes run side by side. An offset is
committed only when everything before it is handled, or acknowledged by the topic of dead letters.
Order across the topics of one key is not kept: no log promises it, and functions decide by state.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from shared.domain.errors import EngineAway, MalformedEvent, PermanentError, TemporaryError
from shared.events.codec import decode, header, type_of
from shared.events.event import Event
from shared.events.timers import TimerDue
from shared.ports.clock import Clock
from shared.ports.event_log import Consumer, EventLog, Record, TopicPartition
from shared.runtime.dead_letters import dead_letter, is_for_another
from shared.runtime.functions import Function
from shared.runtime.time_limit import TimeLimit
from shared.runtime.watermark import Watermark

_LOG = logging.getLogger(__name__)
_POLL = timedelta(seconds=30)
"""Longest wait for records; a stop ends it at once."""
_COMMIT_EVERY = timedelta(seconds=1)
"""What a crash has handled again, beside what was in hand; a commit costs as much as a poll."""
_AWAY = timedelta(minutes=5)
"""How long an event waits for an engine that gives no answer. Every other one would fail as well,
so dead letters would only turn an outage into disorder; but one whose own question is never
answered must not hold its partition for ever."""
_DOUBLINGS = 10
"""Times that a wait is doubled; some errors are waited out without end."""
_OUTSTANDING = 500
"""Records of one partition that are read and not done, before it is paused."""


_DECODED = 1_000
"""Events that all pumps of a process have in common for a while: most have several readers."""
_DECODED_BY_LOG: "WeakKeyDictionary[EventLog, dict[tuple[str, int, int], Event]]"
_DECODED_BY_LOG = WeakKeyDictionary()


def _decoded_of(log: EventLog) -> dict[tuple[str, int, int], Event]:
    return _DECODED_BY_LOG.setdefault(log, {})


@dataclass(slots=True)
class Counts:
    """What one replica did, for people to look at."""

    done: int = 0
    skipped: int = 0
    dead_lettered: int = 0


class Pump:
    """One replica of a function that is woken by events."""

    def __init__(self, function: Function, needs: Any, log: EventLog, clock: Clock) -> None:
        """Prepare; `run` joins the group."""
        self.spec = function.spec
        self.counts = Counts()
        self._function = function
        self._needs = needs
        self._log = log
        self._clock = clock
        self._decoded = _decoded_of(log)
        self._wanted = frozenset(payload.TYPE for payload in function.spec.consumes)
        self._urgent = frozenset(payload.TYPE for payload in function.spec.urgent)
        self._whole = frozenset(topic.value for topic in function.spec.whole_topics)
        self._lanes: dict[tuple[str, bytes | None], deque[Record]] = {}
        self._gathering: dict[tuple[str, bytes | None], asyncio.Future[None]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(function.spec.concurrency)
        self._marks: dict[TopicPartition, Watermark] = {}
        self._paused: set[TopicPartition] = set()
        self._dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._consumer: Consumer | None = None
        self._broken: asyncio.Future[None]

    async def run(self) -> None:
        """Handle records until `stop`; returns when all that was begun is done and committed."""
        topics = [topic.value for topic in self.spec.topics]
        self._broken = asyncio.get_running_loop().create_future()
        self._consumer = consumer = await self._log.join(self.spec.slug, topics)
        committing = asyncio.create_task(self._commit_now_and_then(consumer))
        polling = asyncio.create_task(self._poll(consumer))
        stopping = asyncio.create_task(self._stopping.wait())
        ends: set[asyncio.Future[Any]] = {polling, committing, stopping, self._broken}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                _raise_of(polling, committing, self._broken)
            await _cancel(polling)
            while self._workers:
                await asyncio.wait(self._workers)
            await _cancel(committing)
            with contextlib.suppress(TemporaryError):
                await self._commit(consumer)
        finally:
            for end in (*ends, *self._workers):
                end.cancel()
            await consumer.close()

    def stop(self) -> None:
        """Take no more records; `run` returns once those at hand are done."""
        self._stopping.set()

    @property
    def is_idle(self) -> bool:
        """Say whether nothing is being handled."""
        return not self._workers

    async def _poll(self, consumer: Consumer) -> None:
        while True:
            try:
                records = await consumer.poll(timeout=_POLL, max_records=_OUTSTANDING)
            except TemporaryError as error:
                _LOG.warning("%s: the event log is away: %s", self.spec.slug, error)
                await self._clock.sleep(error.retry_after)
                continue
            self._forget_lost(consumer)
            for record in records:
                self._take(record)
            self._hold_back(consumer)

    def _forget_lost(self, consumer: Consumer) -> None:
        """Let go of partitions that another replica has now; it begins at what was committed."""
        for place in [place for place in self._marks if place not in consumer.assignment]:
            del self._marks[place]
            self._paused.discard(place)

    def _take(self, record: Record) -> None:
        mark = self._marks.get(record.place)
        if mark is None:
            mark = self._marks[record.place] = Watermark()
        mark.add(record.offset)
        if not self._is_wanted(record):
            self.counts.skipped += 1
            self._finished(record)
            return
        is_batched = self._function.handle_batch is not None
        lane = ("" if self.spec.joins_topics else record.topic, record.key)
        waiting = self._lanes.get(lane)
        if waiting is not None:
            waiting.append(record)
            if lane in self._gathering and self._is_urgent(record):
                self._gathering[lane].cancel()
            return
        self._lanes[lane] = deque([record])
        work = self._work_batches if is_batched else self._work
        worker = asyncio.create_task(work(lane))
        self._workers.add(worker)
        worker.add_done_callback(self._worker_ended)

    def _worker_ended(self, worker: "asyncio.Task[None]") -> None:
        """Make an end by error known: its lane would stand still, and its partition with it."""
        self._workers.discard(worker)
        if worker.cancelled():
            error: BaseException | None = RuntimeError("a handler was cancelled by nobody of ours")
        else:
            error = worker.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _is_wanted(self, record: Record) -> bool:
        if self.spec.raw and record.topic in self._whole:
            return True
        if is_for_another(record, self.spec.slug):
            return False
        if header(record.headers, "ce_replayid") is not None and not self.spec.accepts_replay:
            return False
        kind = type_of(record.headers)
        # No type: structured mode, or no event at all. Both need a closer look.
        return kind is None or kind in self._wanted or record.topic in self._whole

    def _is_urgent(self, record: Record) -> bool:
        return type_of(record.headers) in self._urgent

    async def _work(self, lane: tuple[str, bytes | None]) -> None:
        waiting = self._lanes[lane]
        limit = self._limit()
        async with self._slots:
            while waiting:
                record = waiting[0]
                if record.place in self._marks:
                    if not await self._handle(record, limit):
                        break
                    self._finished(record)
                waiting.popleft()
        del self._lanes[lane]

    def _limit(self) -> TimeLimit:
        """Return the bound on each call of the handler, for the worker that asks."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a worker is a task")
        return TimeLimit(task.get_loop(), task, self.spec.time_limit.total_seconds())

    async def _work_batches(self, lane: tuple[str, bytes | None]) -> None:
        waiting = self._lanes[lane]
        limit = self._limit()
        while waiting:
            if self.spec.linger and not any(map(self._is_urgent, waiting)):
                await self._gather(lane)
            async with self._slots:
                batch = list(waiting)
                ours = [record for record in batch if record.place in self._marks]
                if not await self._handle_batch(ours, limit):
                    break
            for _ in batch:
                waiting.popleft()
            # Only these: another one's partition may have come back meanwhile, and it with it.
            for record in ours:
                self._finished(record)
        del self._lanes[lane]

    async def _gather(self, lane: tuple[str, bytes | None]) -> None:
        """Let more come together, until something urgent does."""
        lingering = asyncio.ensure_future(self._clock.sleep(self.spec.linger))
        self._gathering[lane] = lingering
        try:
            await asyncio.wait({lingering})
        finally:
            lingering.cancel()
            del self._gathering[lane]

    async def _handle_batch(self, records: Sequence[Record], limit: TimeLimit) -> bool:
        """Handle records of one key together; where that fails, each finds its own end.

        Says whether all of them are done with.
        """
        try:
            events = [event for record in records if (event := self._event(record)) is not None]
            if events and self._function.handle_batch is not None:
                with limit:
                    await self._function.handle_batch(events, self._needs)
            self.counts.done += len(events)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - each record is tried again by itself, and told
            _LOG.debug("%s handles %d records one by one: %r", self.spec.slug, len(records), error)
            return all([await self._handle(record, limit) for record in records])
        return True

    def _event(self, record: Record) -> Event | None:
        """Return the event of a record, or None where it is not for this function.

        Raises:
            MalformedEvent: It is none.
        """
        place = (record.topic, record.partition, record.offset)
        event = self._decoded.get(place)
        if event is None:
            event = decode(record.key, record.headers, record.value, arrived_at=self._clock.now())
            self._decoded[place] = event
            if len(self._decoded) > _DECODED:
                del self._decoded[next(iter(self._decoded))]
        is_replay = event.replay_id is not None and not self.spec.accepts_replay
        is_others = isinstance(event.data, TimerDue) and event.data.target != self.spec.slug
        if is_replay or is_others:
            self.counts.skipped += 1
            return None
        return event

    def _finished(self, record: Record) -> None:
        mark = self._marks.get(record.place)
        if mark is not None and mark.done(record.offset):
            self._dirty.set()
            if record.place in self._paused and mark.outstanding < _OUTSTANDING // 2:
                self._paused.discard(record.place)
                if self._consumer is not None:
                    self._consumer.resume([record.place])

    def _hold_back(self, consumer: Consumer) -> None:
        full = {p for p, mark in self._marks.items() if mark.outstanding >= _OUTSTANDING}
        fresh = full - self._paused
        if fresh:
            consumer.pause(fresh)
            self._paused |= fresh

    async def _handle(self, record: Record, limit: TimeLimit) -> bool:
        """Handle a record, or hand it to the topic of dead letters: the partition moves on.

        Says whether it is done with. It is not where the log or a store is away for so long that
        this replica is stopped meanwhile; then it stays uncommitted, for another one.
        """
        attempt = 0
        began = self._clock.monotonic()
        while True:
            attempt += 1
            try:
                await self._deliver(record, limit)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a handler's bug must not stop the partition
                if self._gives_up(error, attempt, since=began):
                    return await self._dead_letter(record, error, attempt)
                if self._stopping.is_set() and attempt >= self.spec.retry.attempts:
                    return False
                await self._clock.sleep(self._pause_after(error, attempt))
            else:
                return True

    def _gives_up(self, error: Exception, attempt: int, *, since: float) -> bool:
        if isinstance(error, PermanentError):
            return True
        if not isinstance(error, TemporaryError):
            _LOG.error("%s has a bug", self.spec.slug, exc_info=error)
        if isinstance(error, EngineAway):
            waited = self._clock.monotonic() - since
            if attempt == 1:
                _LOG.warning("%s waits: %s", self.spec.slug, error)
            if waited < _AWAY.total_seconds():
                return False
        # Dead letters of the function that keeps dead letters would come back to itself.
        is_keeper = self.spec.raw and isinstance(error, TemporaryError)
        return attempt >= self.spec.retry.attempts and not is_keeper

    def _pause_after(self, error: Exception, attempt: int) -> timedelta:
        retry = self.spec.retry
        wait: timedelta = retry.first_delay * 2 ** min(attempt - 1, _DOUBLINGS)
        if isinstance(error, TemporaryError):
            wait = max(wait, error.retry_after)
        return min(wait, retry.longest_delay)

    async def _deliver(self, record: Record, limit: TimeLimit) -> None:
        try:
            with limit:
                if self.spec.raw and record.topic in self._whole:
                    if self._function.handle_record is not None:
                        await self._function.handle_record(record, self._needs)
                    self.counts.done += 1
                    return
                event = self._event(record)
                if event is None:
                    return
                if self._function.handle is None:
                    raise MalformedEvent(f"{self.spec.slug} handles no events")
                await self._function.handle(event, self._needs)
                self.counts.done += 1
        except TimeoutError as error:
            seconds = self.spec.time_limit.total_seconds()
            raise TemporaryError(f"no end after {seconds:g} s") from error

    async def _dead_letter(self, record: Record, error: Exception, attempts: int) -> bool:
        """Say, once it is sure, whether the letter is acknowledged: only then may be committed."""
        letter = dead_letter(
            record, error, function=self.spec.slug, attempts=attempts, at=self._clock.now()
        )
        while True:
            try:
                await self._log.append([letter])
            except TemporaryError as away:
                if self._stopping.is_set():
                    return False
                await self._clock.sleep(away.retry_after)
            else:
                break
        self.counts.dead_lettered += 1
        _LOG.error("%s could not handle a record of %s: %s", self.spec.slug, record.topic, error)
        return True

    async def _commit_now_and_then(self, consumer: Consumer) -> None:
        while True:
            await self._dirty.wait()
            await self._clock.sleep(_COMMIT_EVERY)
            self._dirty.clear()
            try:
                await self._commit(consumer)
            except TemporaryError as error:
                _LOG.warning("%s could not commit: %s", self.spec.slug, error)
                self._dirty.set()
                await self._clock.sleep(error.retry_after)

    async def _commit(self, consumer: Consumer) -> None:
        offsets = {
            place: mark.committable
            for place, mark in self._marks.items()
            if mark.committable is not None
        }
        if offsets:
            await consumer.commit(offsets)


def _raise_of(*ended: "asyncio.Future[None]") -> None:
    """Raise what one of them ended by: none of them ends while all is well."""
    for one in ended:
        if one.done():
            one.result()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
