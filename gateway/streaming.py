"""Live streams of executions: one subscription for all of them.

The numbered history is the truth; a nudge on the signals only says that there is more. A stream
subscribes first, then reads the history after its client's last id, then follows nudges. A gap in
the numbers, a full buffer or a silence is answered in one way: the history is read from where the
client stands. So nothing depends on a nudge arriving, and no client waits for another.
"""

import asyncio
import contextlib
import math
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import orjson
from starlette.types import Receive, Send

from gateway import messages
from gateway.auth import REVOKED_CHANNEL, Identities
from gateway.context import Caller
from gateway.messages import Life, Message
from gateway.settings import GatewaySettings
from shared.domain.errors import Refusal, TemporaryError
from shared.domain.executions import TERMINAL, Status
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.signals import Signals, Subscription

_PAGE = 100
"""Events of the history that are read at once for one client."""
_AFTER_RESULT = 50
"""More events than ever follow a result: the words about the clean-up."""
_PIECE = 64 * 1024
"""Bytes that are written at once, about what a server buffers for one connection."""
_CHANNEL = "sse:exec:"
_MINUTE = 60.0
_LONGEST_WAIT = 60
_RECONNECT = timedelta(seconds=1)
_DRAIN_STEP = timedelta(milliseconds=500)
_SHORTENED = 0.05
"""The largest part of its longest time that a stream is ended earlier."""
_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, lie as far apart as can be, however many there are."""


class Feed:
    """One execution that somebody watches."""

    __slots__ = (
        "execution_id",
        "heard_at",
        "highest",
        "is_subscribed",
        "life",
        "lock",
        "position",
        "streams",
    )

    def __init__(self, execution: Document, now: float) -> None:
        """Know nothing of the history yet."""
        self.execution_id: str = execution["execution_id"]
        self.streams: set[Stream] = set()
        self.highest = 0
        """The highest number that the history is known to have."""
        self.heard_at = now
        self.life = life_of(execution)
        """Where the live end of the history stands."""
        self.position: int | None = None
        self.is_subscribed = False
        self.lock = asyncio.Lock()


class Stream:
    """One client that watches an execution: what it was sent, and what waits to be sent."""

    __slots__ = (
        "buffered_bytes",
        "caller",
        "chunks",
        "ends_at",
        "feed",
        "groups",
        "has_ended",
        "is_behind",
        "last",
        "life",
        "task",
        "wake",
        "was_cut",
        "writing_since",
        "written_at",
    )

    def __init__(
        self,
        feed: Feed,
        *,
        caller: Caller,
        groups: frozenset[str],
        last: int,
        life: Life,
        now: float,
        ends_at: float,
    ) -> None:
        """Stand right after the event `last`, 0 for the beginning."""
        self.feed = feed
        self.ends_at = ends_at
        """When its client has to connect again, however much there may be to say."""
        self.caller = caller
        self.groups = groups
        self.last = last
        """The number of the last event that was sent, or left out on purpose."""
        self.life = life
        self.chunks: deque[bytes] = deque()
        self.buffered_bytes = 0
        self.is_behind = True
        """Whether the history has to be read before nudges may be followed."""
        self.has_ended = False
        self.was_cut = False
        self.wake = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        self.written_at = now
        self.writing_since: float | None = None

    def push(self, chunk: bytes) -> None:
        """Let a chunk be written as soon as the client takes it."""
        if not self.has_ended:
            self.chunks.append(chunk)
            self.buffered_bytes += len(chunk)
            self.wake.set()

    def end(self, chunk: bytes = b"") -> None:
        """Let a last chunk be written, and nothing after it."""
        if chunk:
            self.push(chunk)
        self.has_ended = True
        self.wake.set()

    def fall_behind(self) -> None:
        """Let the history be read before anything else is sent."""
        self.is_behind = True
        self.wake.set()

    def cut(self) -> None:
        """Give the client up: it takes nothing, and shall not cost more memory."""
        self.was_cut = self.has_ended = True
        if self.task is not None:
            self.task.cancel()


class Hub:
    """All streams of this process."""

    def __init__(
        self,
        *,
        executions: Documents,
        events: Documents,
        signals: Signals,
        clock: Clock,
        identities: Identities,
        settings: GatewaySettings,
    ) -> None:
        """Start with no stream."""
        self._executions = executions
        self._events = events
        self._signals = signals
        self._clock = clock
        self._identities = identities
        self._settings = settings
        self._of_user: dict[str, list[Stream]] = {}
        self._opens: dict[str, deque[float]] = {}
        self._insisting: dict[str, int] = {}
        self._subscription: Subscription | None = None
        self._listener: asyncio.Task[None] | None = None
        self._is_draining = False
        self._spread = 0.0
        self.feeds: dict[str, Feed] = {}
        self.watched = asyncio.Event()
        """Set while somebody may be watching, so that nothing ticks for nobody."""
        self.revocations: set[str] = set()
        """Credentials that ended a moment ago, as `session:{id}`, `user:{id}` or `key:{id}`."""

    async def start(self) -> None:
        """Begin to listen."""
        await self._connect()
        self._listener = asyncio.create_task(self._listen(), name="streams: nudges")

    async def stop(self) -> None:
        """End every stream and stop listening."""
        self._is_draining = True
        for stream in self.streams():
            self.end(stream, "shutdown")
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._subscription is not None:
            with contextlib.suppress(TemporaryError):
                await self._subscription.close()

    async def drain(self) -> None:
        """Tell every client to move elsewhere; return when all have gone, or were ended.

        To be called when the process is asked to stop: servers wait for open answers before they
        end, and a stream has no end of its own.
        """
        self._is_draining = True
        at = self._clock.now()
        for stream in self.streams():
            stream.push(messages.of_control("shutdown", stream.life, at=at))
        waited = timedelta()
        while self._of_user and waited < self._settings.stream_drain:
            await self._clock.sleep(_DRAIN_STEP)
            waited += _DRAIN_STEP
        for stream in self.streams():
            stream.end()

    @property
    def open_streams(self) -> int:
        """Return how many clients are connected."""
        return sum(len(streams) for streams in self._of_user.values())

    def streams(self) -> list[Stream]:
        """Return every open stream."""
        return [stream for streams in self._of_user.values() for stream in streams]

    def admit(self, caller: Caller) -> None:
        """Count an opening.

        Raises:
            Refusal: The user opens too many a minute, or the process is about to stop.
        """
        if self._is_draining:
            detail = "This process is about to stop; connect again."
            raise Refusal("unavailable", detail, retry_after=timedelta(seconds=1))
        if not self._settings.rate_limit_enabled:
            return
        now = self._clock.monotonic()
        opens = self._opens.setdefault(caller.user_id, deque())
        while opens and now - opens[0] >= _MINUTE:
            opens.popleft()
        limit = self._settings.stream_opens_per_minute
        if len(opens) >= limit:
            self._refuse_insisting(caller, limit)
        self._insisting.pop(caller.user_id, None)
        opens.append(now)

    def _refuse_insisting(self, caller: Caller, limit: int) -> None:
        insisted = self._insisting.get(caller.user_id, 0)
        self._insisting[caller.user_id] = insisted + 1
        wait = timedelta(seconds=min(_LONGEST_WAIT, 2 ** min(insisted, 6)))
        detail = f"You opened {limit} streams within a minute; wait {wait.seconds} s."
        raise Refusal("rate_limited", detail, retry_after=wait, context={"limit": limit})

    def forget_openings(self) -> None:
        """Drop the counts of users who opened nothing for a minute."""
        now = self._clock.monotonic()
        quiet = [user for user, opens in self._opens.items() if now - opens[-1] >= _MINUTE]
        for user in quiet:
            del self._opens[user]
            self._insisting.pop(user, None)

    async def resume_point(self, execution_id: str, last_id: int) -> tuple[int, bool]:
        """Return where a client that names a last id really stands, and whether it saw the end.

        The id is the client's word: one beyond the end of the history is taken back to its end, or
        the client would wait for ever.
        """
        if last_id <= 0:
            return 0, False
        where = {"execution_id": execution_id, "seq": {"$lte": last_id}}
        tail = await self._events.find(where, sort=[("seq", -1)], limit=_AFTER_RESULT)
        if not tail:
            return 0, False
        return tail[0]["seq"], any(event["event_type"] in messages.RESULTS for event in tail)

    async def position(self, execution: Document) -> int | None:
        """Return the place in the queue, 1 for the next one; None where it does not wait."""
        if execution["status"] != Status.QUEUED:
            return None
        where = {"status": Status.QUEUED.value, "rank": {"$lt": execution["rank"]}}
        return await self._executions.count(where) + 1

    async def open(
        self, execution: Document, *, caller: Caller, groups: frozenset[str], last: int
    ) -> Stream:
        """Register a stream, to be served by `serve`. One too many ends the user's oldest."""
        position = await self.position(execution)
        now = self._clock.monotonic()
        execution_id = execution["execution_id"]
        feed = self.feeds.get(execution_id)
        if feed is None:
            feed = self.feeds[execution_id] = Feed(execution, now)
            if execution["status"] in TERMINAL:
                # Its history may be past its retention: a second look is due at once.
                feed.heard_at = -_MINUTE
        if position is not None:
            feed.position = position
        life = life_of(execution)
        stream = Stream(
            feed,
            caller=caller,
            groups=groups,
            last=last,
            life=life,
            now=now,
            ends_at=now + self._longest(),
        )
        feed.streams.add(stream)
        self._register(stream)
        self.watched.set()
        stream.push(messages.RETRY)
        stream.push(messages.of_status(life, at=self._clock.now(), position=position))
        return stream

    def _longest(self) -> float:
        """Return the seconds that the next stream may be open.

        Each a little less than the setting says, and no two in a row alike: those who came together
        shall not all come back together.
        """
        longest = self._settings.stream_longest.total_seconds()
        if not longest:
            return math.inf
        self._spread = (self._spread + _GOLDEN) % 1
        return longest * (1 - _SHORTENED * self._spread)

    def _register(self, stream: Stream) -> None:
        caller = stream.caller
        mine = self._of_user.setdefault(caller.user_id, [])
        mine.append(stream)
        limit = self._settings.streams_per_user
        if caller.role == "admin":
            limit = self._settings.streams_per_administrator
        while len(mine) > limit:
            oldest = mine.pop(0)
            self.end(oldest, "replaced", message_id=f"replaced:{oldest.last}")

    def end(self, stream: Stream, name: str, *, message_id: str | None = None) -> None:
        """End a stream with a named message that says why."""
        at = self._clock.now()
        stream.end(messages.of_control(name, stream.life, at=at, message_id=message_id))

    def _close(self, stream: Stream) -> None:
        stream.has_ended = True
        stream.feed.streams.discard(stream)
        mine = self._of_user.get(stream.caller.user_id, [])
        if stream in mine:
            mine.remove(stream)
        if not mine:
            self._of_user.pop(stream.caller.user_id, None)

    async def serve(
        self, stream: Stream, receive: Receive, send: Send, *, is_compressed: bool
    ) -> None:
        """Write a stream until it ends, its client goes, or the client is cut."""
        stream.task = asyncio.current_task()
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: stream.wake.set())
        pack = _Gzip() if is_compressed else _Plain()
        try:
            await send(_start(is_compressed=is_compressed))
            await self._flush(stream, send, pack)
            await self.subscribe(stream.feed)
            await self._follow(stream, send, pack, gone)
        except asyncio.CancelledError:
            if not stream.was_cut or stream.task is None or stream.task.uncancel():
                raise
        finally:
            gone.cancel()
            self._close(stream)

    async def _follow(
        self, stream: Stream, send: Send, pack: "_Plain | _Gzip", gone: "asyncio.Future[None]"
    ) -> None:
        while not gone.done():
            if stream.chunks:
                await self._flush(stream, send, pack)
            elif stream.has_ended:
                last = {"type": "http.response.body", "body": pack.finish(), "more_body": False}
                await send(last)
                return
            elif stream.is_behind:
                await self._catch_up(stream)
            else:
                stream.wake.clear()
                await stream.wake.wait()

    async def _flush(self, stream: Stream, send: Send, pack: "_Plain | _Gzip") -> None:
        data = pack.pack(b"".join(stream.chunks))
        stream.chunks.clear()
        stream.buffered_bytes = 0
        for piece in _pieces(data):
            stream.writing_since = self._clock.monotonic()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        stream.writing_since = None
        stream.written_at = self._clock.monotonic()

    async def subscribe(self, feed: Feed) -> None:
        """Listen to the nudges of an execution; without signals its history is polled instead."""
        async with feed.lock:
            if feed.is_subscribed or self._subscription is None:
                return
            with contextlib.suppress(TemporaryError):
                await self._subscription.add(_CHANNEL + feed.execution_id)
                feed.is_subscribed = True

    async def unsubscribe(self, feed: Feed) -> None:
        """Forget an execution that nobody watches any more."""
        async with feed.lock:
            if feed.streams:
                return
            feed.is_subscribed = False
            if self._subscription is not None:
                with contextlib.suppress(TemporaryError):
                    await self._subscription.remove(_CHANNEL + feed.execution_id)
            if not feed.streams:
                self.feeds.pop(feed.execution_id, None)

    async def _catch_up(self, stream: Stream) -> None:
        """Send one page of the history after what the stream was sent."""
        feed = stream.feed
        where = {"execution_id": feed.execution_id, "seq": {"$gt": stream.last}}
        try:
            page = await self._events.find(where, sort=[("seq", 1)], limit=_PAGE)
        except TemporaryError:
            # The ticker asks again; until then there is nothing to send.
            stream.is_behind = False
            feed.heard_at = -_MINUTE
            return
        underscores = self._settings.compat_underscore_types
        for event in page:
            if stream.has_ended or stream.buffered_bytes > self._settings.stream_buffer_bytes:
                break
            message = messages.of_event(stream.life, event["seq"], event, underscores=underscores)
            self._deliver(stream, message)
        feed.highest = max(feed.highest, page[-1]["seq"] if page else stream.last)
        is_all = len(page) < _PAGE and stream.last >= feed.highest
        if is_all or not page:
            # No await since the page was read: the next nudge has the next number.
            stream.is_behind = False
        if stream.last == feed.highest:
            feed.life = Life(feed.execution_id, stream.life.status, stream.life.is_cancel_requested)

    def _deliver(self, stream: Stream, message: Message) -> None:
        stream.last = message.seq
        if message.group in stream.groups:
            stream.push(message.chunk)
        if message.is_last:
            self.end(stream, "end", message_id=str(message.seq))

    def _tell(self, feed: Feed, seq: int, event: Mapping[str, Any]) -> None:
        """Hand one event to every stream of its execution that stands right before it."""
        if seq <= feed.highest:
            return
        # What was missed in between is in the history; each stream reads it from where it stands.
        has_gap = seq != feed.highest + 1
        feed.highest = seq
        underscores = self._settings.compat_underscore_types
        message = messages.of_event(feed.life, seq, event, underscores=underscores)
        for stream in tuple(feed.streams):
            if stream.is_behind or stream.has_ended:
                continue
            if has_gap or seq != stream.last + 1 or self.is_full(stream):
                stream.fall_behind()
                continue
            stream.life.status = feed.life.status
            stream.life.is_cancel_requested = feed.life.is_cancel_requested
            self._deliver(stream, message)

    def is_full(self, stream: Stream) -> bool:
        """Say whether a client has as much waiting as it may."""
        return (
            len(stream.chunks) >= self._settings.stream_buffer_messages
            or stream.buffered_bytes >= self._settings.stream_buffer_bytes
        )

    async def _connect(self) -> bool:
        """Open a subscription and listen to what is watched; say whether that worked."""
        subscription = self._signals.subscribe()
        try:
            await subscription.add(REVOKED_CHANNEL)
        except TemporaryError:
            with contextlib.suppress(TemporaryError):
                await subscription.close()
            return False
        self._subscription = subscription
        for feed in list(self.feeds.values()):
            feed.is_subscribed = False
            await self.subscribe(feed)
        return True

    async def _listen(self) -> None:
        while True:
            if self._subscription is not None:
                with contextlib.suppress(TemporaryError):
                    async for channel, message in self._subscription:
                        self._hear(channel, message)
            self._subscription = None
            for feed in self.feeds.values():
                feed.is_subscribed = False
            while not await self._connect():
                await self._clock.sleep(_RECONNECT)

    def _hear(self, channel: str, message: bytes) -> None:
        if channel == REVOKED_CHANNEL:
            identity = message.decode(errors="replace")
            self._identities.forget(identity)
            self.revocations.add(identity)
            self.watched.set()
            return
        feed = self.feeds.get(channel.removeprefix(_CHANNEL))
        if feed is None:
            return
        try:
            nudge = orjson.loads(message)
            self._tell(feed, int(nudge["seq"]), nudge["event"])
            feed.heard_at = self._clock.monotonic()
        except (ValueError, KeyError, TypeError, AttributeError):
            # Whatever it was, the history has it as it should be.
            feed.heard_at = -_MINUTE


class _Plain:
    """Bytes as they are."""

    def pack(self, data: bytes) -> bytes:
        """Return what to write."""
        return data

    def finish(self) -> bytes:
        """Return the last bytes."""
        return b""


class _Gzip:
    """Compressed, and flushed each time: an event that waits for company comes too late.

    The small window costs some of the ratio; a usual one would cost 256 KiB for every client.
    """

    def __init__(self) -> None:
        self._packer = zlib.compressobj(4, zlib.DEFLATED, 16 + 12, 5)

    def pack(self, data: bytes) -> bytes:
        """Return what to write."""
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return the last bytes."""
        return self._packer.flush(zlib.Z_FINISH)


def life_of(execution: Mapping[str, Any]) -> Life:
    """Return what the stored document says of an execution's life."""
    return Life(
        execution["execution_id"],
        execution["status"],
        execution.get("cancel_requested_at") is not None,
    )


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) <= _PIECE:
        yield data
        return
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


def _start(*, is_compressed: bool) -> dict[str, Any]:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        (b"vary", b"Accept-Encoding"),
    ]
    if is_compressed:
        headers.append((b"content-encoding", b"gzip"))
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
