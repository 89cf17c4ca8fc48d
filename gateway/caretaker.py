"""What streams need while nothing happens: heartbeats, a second look at the history, an end.

One ticker serves all streams of the process; it rests while nobody watches.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta

from gateway import messages
from gateway.auth import Identities
from gateway.settings import GatewaySettings
from gateway.streaming import Feed, Hub, Stream, life_of
from shared.domain.errors import TemporaryError
from shared.domain.executions import TERMINAL, Status
from shared.domain.results import result_object
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.signals import Signals

_LOG = logging.getLogger("gateway")
_TICK = timedelta(seconds=1)
_NOTHING = timedelta(0)
_BATCH = 100
"""Executions that are asked for in one query."""
_BREATH = 20
"""Documents that are read before others get a turn; an embedded store answers without waiting."""
_STALLED = 60.0
"""Seconds after which a write that does not move is given up, however little waits behind it."""
_ORDER = {
    Status.QUEUED.value: 0,
    Status.SCHEDULED.value: 1,
    Status.LAUNCHING.value: 2,
    Status.RUNNING.value: 3,
    **{status.value: 4 for status in TERMINAL},
}


class Caretaker:
    """Looks after every stream of the hub once a second."""

    def __init__(
        self,
        hub: Hub,
        *,
        executions: Documents,
        events: Documents,
        signals: Signals,
        clock: Clock,
        identities: Identities,
        settings: GatewaySettings,
    ) -> None:
        """Take care of a hub."""
        self._hub = hub
        self._executions = executions
        self._events = events
        self._signals = signals
        self._clock = clock
        self._identities = identities
        self._settings = settings
        self._checked_at: dict[str, float] = {}
        self._are_signals_away = False
        self._pinged_at = -_STALLED
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._task = asyncio.create_task(self._run(), name="streams: ticker")

    async def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._hub.watched.wait()
            try:
                await self.tick()
            except TemporaryError:
                _LOG.info("a store gave no answer; streams are looked after again in a second")
            except Exception:  # noqa: BLE001 - the ticker outlives its bugs: every open stream depends on it
                _LOG.exception("looking after the streams failed")
            if not self._hub.feeds:
                self._hub.watched.clear()
            await self._clock.sleep(_TICK)

    async def tick(self) -> None:
        """Look after everything that is due."""
        now = self._clock.monotonic()
        for stream in self._hub.streams():
            self._keep_alive(stream, now)
            if now >= stream.ends_at and not stream.has_ended:
                self._hub.end(stream, "shutdown")
        self._hub.forget_openings()
        await self._check_identities(now)
        await self._ping(now)
        for feed in [feed for feed in self._hub.feeds.values() if not feed.streams]:
            await self._hub.unsubscribe(feed)
        await self._poll(self._due(now))

    def _keep_alive(self, stream: Stream, now: float) -> None:
        if stream.writing_since is not None:
            waited = now - stream.writing_since
            is_slow = waited > self._settings.stream_patience.total_seconds()
            if waited > _STALLED or (is_slow and self._hub.is_full(stream)):
                stream.cut()
        elif not stream.chunks and now - stream.written_at >= self._heartbeat:
            stream.push(messages.HEARTBEAT)

    @property
    def _heartbeat(self) -> float:
        # A tick before it is due: a second late would be a second too long.
        return (self._settings.heartbeat - _TICK).total_seconds()

    async def _check_identities(self, now: float) -> None:
        """End the streams of whoever signed out, expired, or was disabled."""
        revoked, self._hub.revocations = self._hub.revocations, set()
        streams: dict[str, list[Stream]] = {}
        for stream in self._hub.streams():
            streams.setdefault(stream.caller.identity, []).append(stream)
        every = self._settings.stream_identity_check.total_seconds()
        checked, self._checked_at = self._checked_at, {}
        for number, (identity, theirs) in enumerate(streams.items()):
            if number % _BREATH == 0:
                await self._clock.sleep(_NOTHING)
            at = checked.get(identity, theirs[0].written_at)
            is_named = bool(revoked & {identity, f"user:{theirs[0].caller.user_id}"})
            self._checked_at[identity] = at
            if not is_named and now - at < every:
                continue
            self._checked_at[identity] = now
            if await self._identities.by_identity(identity) is None:
                for stream in theirs:
                    self._hub.end(stream, "expired")

    async def _ping(self, now: float) -> None:
        if not self._hub.feeds or now - self._pinged_at < self._poll_seconds:
            return
        self._pinged_at = now
        try:
            await self._signals.ping()
        except TemporaryError:
            self._are_signals_away = True
            return
        self._are_signals_away = False
        for feed in list(self._hub.feeds.values()):
            if not feed.is_subscribed:
                await self._hub.subscribe(feed)

    @property
    def _poll_seconds(self) -> float:
        settings = self._settings
        poll = settings.poll_without_signals if self._are_signals_away else settings.poll
        return poll.total_seconds()

    def _due(self, now: float) -> list[Feed]:
        """Return what was silent for as long as a nudge may be missed."""
        due = [
            feed
            for feed in self._hub.feeds.values()
            if feed.streams and now - feed.heard_at >= self._poll_seconds
        ]
        for feed in due:
            feed.heard_at = now
        return due

    async def _poll(self, due: Sequence[Feed]) -> None:
        news = await self._history_news(due)
        waiting: list[tuple[Document, Feed]] = []
        for number, feed in enumerate(due):
            if feed.execution_id in news:
                for stream in feed.streams:
                    stream.fall_behind()
                continue
            if number % _BREATH == 0:
                await self._clock.sleep(_NOTHING)
            execution = await self._executions.get(feed.execution_id)
            if execution is None:
                self._end_all(feed)
            elif execution["status"] == Status.QUEUED:
                waiting.append((execution, feed))
            else:
                self._tell_stored(execution, feed)
        await self._tell_positions(waiting)

    async def _history_news(self, due: Sequence[Feed]) -> set[str]:
        """Return the executions whose history goes on beyond what a stream was sent.

        Streams that stand at the same number are asked for together, so that thousands of quiet
        ones cost a few queries.
        """
        by_last: dict[int, list[str]] = {}
        for feed in due:
            last = min((stream.last for stream in feed.streams), default=0)
            by_last.setdefault(last, []).append(feed.execution_id)
        news: set[str] = set()
        for last, ids in by_last.items():
            for some in _batches(ids):
                where = {"execution_id": {"$in": some}, "seq": {"$gt": last}}
                found = await self._events.find(where, limit=2 * _BATCH)
                news.update(event["execution_id"] for event in found)
                await self._clock.sleep(_NOTHING)
        return news

    def _end_all(self, feed: Feed) -> None:
        for stream in tuple(feed.streams):
            self._hub.end(stream, "end")

    def _tell_stored(self, execution: Document, feed: Feed) -> None:
        """Tell what the store knows and the history does not, because the log is away."""
        status, at = execution["status"], self._clock.now()
        is_news = _ORDER[status] > _ORDER.get(feed.life.status or "", -1)
        if is_news:
            feed.life = life_of(execution)
            for stream in feed.streams:
                if not stream.has_ended:
                    stream.life = life_of(execution)
                    stream.push(messages.of_status(stream.life, at=at))
        if status not in TERMINAL:
            return
        ended = execution.get("finished_at") or execution["updated_at"]
        if at - ended >= self._settings.stream_result_patience:
            self._tell_result(execution, feed)

    def _tell_result(self, execution: Document, feed: Feed) -> None:
        at = self._clock.now()
        result = result_object(execution)
        for stream in tuple(feed.streams):
            if stream.has_ended or stream.is_behind:
                continue
            stream.life = life_of(execution)
            if "result" in stream.groups:
                stream.push(messages.of_stored_result(stream.life, result, seq=stream.last, at=at))
            self._hub.end(stream, "end", message_id=f"end:{stream.last}")

    async def _tell_positions(self, waiting: list[tuple[Document, Feed]]) -> None:
        """Tell who waits how far they have come.

        The queue is walked once, from one of ours to the next, however many are waiting.
        """
        waiting.sort(key=lambda pair: (pair[0]["rank"], pair[0]["execution_id"]))
        ahead = 0
        since = None
        for number, (execution, feed) in enumerate(waiting):
            rank = execution["rank"]
            between = {"$lt": rank} if since is None else {"$gte": since, "$lt": rank}
            ahead += await self._executions.count({"status": Status.QUEUED.value, "rank": between})
            since = rank
            self._tell_position(feed, ahead + 1)
            if number % _BREATH == 0:
                await self._clock.sleep(_NOTHING)

    def _tell_position(self, feed: Feed, position: int) -> None:
        if position == feed.position:
            return
        feed.position = position
        at = self._clock.now()
        for stream in feed.streams:
            if not stream.is_behind:
                stream.push(messages.of_status(stream.life, at=at, position=position))


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _BATCH):
        yield list(ids[start : start + _BATCH])
