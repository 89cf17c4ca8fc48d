"""One function behind HTTP: posted CloudEvents, and answers that every sender understands.

What a sender makes of an answer (Knative's dispatcher, and any that follows the CloudEvents HTTP
binding): 204 is done; 400, 413 and 415 are never tried again and go to the sender's dead letters;
409, 429 and 503 are tried again after `Retry-After`. A 200 with a body of ours would be read as a
failed reply, a 404 would be retried for ever: neither is ever answered to an event.

The function runs under functions-framework as an `aio.http` function, not as a `cloud_event` one:
that decorator answers `OK`, reads no batches, and takes broken JSON for an event.
"""

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import orjson
import uvicorn

from shared.domain.errors import (
    MalformedEvent,
    PermanentError,
    Refusal,
    StartupError,
    TemporaryError,
)
from shared.domain.problems import PROBLEMS
from shared.events.catalogue import TYPES
from shared.events.codec import (
    CloudEvent,
    EventTooLarge,
    UnknownType,
    UnsupportedFormat,
    from_http,
    to_event,
    to_kafka,
)
from shared.events.timers import TimerDue
from shared.events.topics import Topic
from shared.ports.clock import Clock
from shared.ports.event_log import Record
from shared.runtime.dead_letters import TARGET, dead_letter
from shared.runtime.functions import Function
from shared.runtime.health import Readiness, judged

_LOG = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 10 * 1024 * 1024
"""Largest request body, as at the gateway."""
ERROR_HEADER = "kne-errorcode"
"""Knative copies response headers `kne-...` onto the dead-lettered event as extensions."""
_LIVE = frozenset({"/health/live", "/health/liveness"})
_READY = frozenset({"/health/ready", "/health/readiness"})
_SOON = timedelta(seconds=1)
_BACKLOG = 2048
_KEEP_ALIVE = 75
"""Seconds; longer than the 60 s after which common proxies let go of an idle connection."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of one request is told."""

    status: int
    code: str = ""
    """Machine code of a refusal; empty when all is done."""
    detail: str = ""
    retry_after: timedelta | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers beside the status."""
        if not self.code:
            return {}
        headers = {ERROR_HEADER: self.code, "content-type": "application/problem+json"}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after.total_seconds())))
        return headers

    @property
    def body(self) -> bytes:
        """Return the problem that a refusal is, nothing otherwise."""
        if not self.code:
            return b""
        known = PROBLEMS.get(self.code, PROBLEMS["malformed"])
        members = {
            "type": f"/problems/{self.code}",
            "title": known.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        return orjson.dumps(members)


_DONE = Answer(204)
_BUSY = Answer(409, "idempotency_in_flight", "This event is being handled right now.", _SOON)


class _RoundOverError(Exception):
    """A function that works until it is cancelled came to its first pause."""


@dataclass(frozen=True, slots=True)
class _OneRound:
    """The clock of one round: it tells the time, and whoever wants to wait has finished."""

    clock: Clock

    def now(self) -> datetime:
        """Return the time."""
        return self.clock.now()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self.clock.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        """End the round."""
        raise _RoundOverError(duration)


@dataclass(slots=True)
class Host:
    """Hands posted events to one function and turns every end into an answer."""

    function: Function
    needs: Any
    clock: Clock
    _in_progress: set[tuple[str, str]] = field(default_factory=set)

    async def deliver(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Handle the events of one request: one, or those of a batch.

        Of a batch every event is tried. The answer is that of the worst: as long as a retry may
        help one of them the sender is asked for it, and the others are handled twice, which they
        bear.
        """
        try:
            events = from_http(headers, body, max_bytes=BODY_LIMIT_BYTES)
        except MalformedEvent as error:
            return _answer_to(error)
        answers = [await self._one(event) for event in events]
        return max(answers, key=lambda answer: _URGENCY.get(answer.status, 0), default=_DONE)

    async def _one(self, event: CloudEvent) -> Answer:
        key = (event.source, event.id)
        if key in self._in_progress:
            return _BUSY
        self._in_progress.add(key)
        try:
            async with asyncio.timeout(self.function.spec.time_limit.total_seconds()):
                await self._handle(event)
        except TimeoutError:
            limit = self.function.spec.time_limit.total_seconds()
            return _answer_to(TemporaryError(f"no end after {limit:g} s"))
        except Exception as error:  # noqa: BLE001 - the border of the process: every end is an answer
            return self._answer_to(event, error)
        finally:
            self._in_progress.discard(key)
        return _DONE

    def _answer_to(self, event: CloudEvent, error: Exception) -> Answer:
        if not isinstance(error, (PermanentError, TemporaryError)):
            _LOG.error("%s has a bug", self.function.spec.slug, exc_info=error)
        elif isinstance(error, PermanentError):
            _LOG.warning("%s refused the event %.80s: %s", self.function.spec.slug, event.id, error)
        return _answer_to(error)

    async def _handle(self, event: CloudEvent) -> None:
        spec, function = self.function.spec, self.function
        if self._is_for_another(event):
            return
        if function.handle_record is not None and _failed_at(event) is not None:
            await function.handle_record(_record(event, at=self.clock.now()), self.needs)
        elif function.handle is not None and spec.consumes:
            await self._handle_event(event)
        elif function.reconcile is not None:
            await function.reconcile(self.needs)
        else:
            await self._round()

    def _is_for_another(self, event: CloudEvent) -> bool:
        target = event.attributes.get(TARGET)
        if target is not None and target != self.function.spec.slug:
            return True
        return "replayid" in event.attributes and not self.function.spec.accepts_replay

    async def _handle_event(self, event: CloudEvent) -> None:
        spec = self.function.spec
        if event.type in TYPES and TYPES[event.type] not in spec.consumes:
            wanted = ", ".join(payload.TYPE for payload in spec.consumes)
            raise UnknownType(f"{spec.slug} does not wait for {event.type}; it waits for: {wanted}")
        ours = to_event(event, arrived_at=self.clock.now())
        if isinstance(ours.data, TimerDue) and ours.data.target != spec.slug:
            return
        if self.function.handle is not None:
            await self.function.handle(ours, self.needs)

    async def _round(self) -> None:
        """Let a function that is awake by the clock do what there is to do now, once.

        Raises:
            TemporaryError: An engine was away, so that it paused before it was through.
        """
        if self.function.run is None:
            return
        clock = _OneRound(self.clock)
        fields = {
            name: clock for name, value in self.needs._asdict().items() if value is self.clock
        }
        try:
            await self.function.run(self.needs._replace(**fields))
        except _RoundOverError as over:
            if isinstance(over.__context__, TemporaryError):
                raise over.__context__ from None


_URGENCY = {400: 1, 413: 1, 415: 1, 500: 2, 409: 3, 429: 4, 503: 5}


def _answer_to(error: Exception) -> Answer:
    match error:
        case EventTooLarge():
            return Answer(413, "body_too_large", f"{error}.")
        case UnsupportedFormat():
            return Answer(415, "unsupported_media_type", f"{error}.")
        case Refusal():
            return Answer(400, error.code, error.detail)
        case PermanentError():
            return Answer(400, "malformed", f"{error}.")
        case TemporaryError(__cause__=Refusal(code=code)) if PROBLEMS[code].status in (409, 429):
            return Answer(PROBLEMS[code].status, code, f"{error}", error.retry_after)
        case TemporaryError(__cause__=Refusal(code=code)):
            return Answer(503, code, f"{error}", error.retry_after)
        case TemporaryError():
            return Answer(503, "unavailable", f"{error}.", error.retry_after)
        case _:
            return Answer(500, "internal", "The function failed; its log has the reason.", _SOON)


def _failed_at(event: CloudEvent) -> str | None:
    """Return where delivery failed, if this is somebody's dead letter."""
    return event.attributes.get("knativeerrordest")


def _record(event: CloudEvent, *, at: datetime) -> Record:
    """Return the record that a dead letter from a broker would be on our own topic.

    A broker names the subscriber by its address, whose first label is the function. The instant
    stands for the offset: a broker numbers nothing, and a second failure must not look like the
    first one delivered twice.
    """
    ours = {k: v for k, v in event.attributes.items() if not k.startswith("knativeerror")}
    fallback = event.attributes.get("subject") or f"{event.source}:{event.id}"
    ours.setdefault("partitionkey", fallback)
    key, headers, value = to_kafka(CloudEvent(ours, event.data, event.content_type))
    topic = TYPES[event.type].TOPIC if event.type in TYPES else Topic.EXECUTION_SUBMISSIONS
    offset = int(at.timestamp() * 1000)
    original = Record(topic, 0, offset, key, headers, value)
    address = urlsplit(_failed_at(event) or "")
    function = (address.hostname or address.path).partition(".")[0]
    code = event.attributes.get("knativeerrorcode", "")
    error = PermanentError(f"the subscriber answered {code or 'nothing'}")
    letter = dead_letter(original, error, function=function, attempts=1, at=at)
    return Record(letter.topic, 0, offset, letter.key, letter.headers, letter.value)


def create_app(
    function: Function, needs: Any, *, clock: Clock, readiness: Readiness | None = None
) -> App:
    """Return the ASGI application of one function.

    Every path takes events; below `/health/` it tells whether it lives and whether it is ready. A
    function that reconciles does so when the application starts, and regularly after.
    """
    host = Host(function, needs, clock)
    inner = _framework_app(host, readiness)
    return _with_lifespan(inner, function, needs, clock)


def _framework_app(host: Host, readiness: Readiness | None) -> Any:
    import functions_framework.aio  # noqa: PLC0415 - brings Flask along, a third of a second
    from starlette.requests import ClientDisconnect, Request  # noqa: PLC0415
    from starlette.responses import Response  # noqa: PLC0415

    async def entry(request: Request) -> Response:
        if request.url.path in _LIVE | _READY and request.method in ("GET", "HEAD"):
            status, told = await _health(request.url.path, readiness)
            return Response(orjson.dumps(told), status, media_type="application/json")
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        try:
            body = await _body(request.headers, request.stream())
        except EventTooLarge as error:
            answer = _answer_to(error)
            return Response(answer.body, 413, {**answer.headers, "connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        answer = await host.deliver(request.headers, body)
        return Response(answer.body, answer.status, answer.headers)

    entry.__name__ = target = host.function.spec.slug.replace("-", "_")
    functions_framework.aio.http(entry)
    # Not by a source file: the framework would run this module again under a name of its own.
    module = SimpleNamespace(**{target: entry})
    make: Callable[..., Any] = functions_framework.aio.create_asgi_app_from_module
    return make(target, __file__, "http", module, None)


async def _health(path: str, readiness: Readiness | None) -> tuple[int, dict[str, Any]]:
    if path in _LIVE:
        return 200, {"status": "ok"}
    return judged(await readiness() if readiness is not None else {})


async def _body(headers: Mapping[str, str], chunks: AsyncIterable[bytes]) -> bytes:
    """Read a body, and no more of it than is accepted.

    Raises:
        EventTooLarge: By what it says or by what it is.
    """
    said = headers.get("content-length", "")
    size = int(said) if said.isascii() and said.isdigit() else 0
    parts: list[bytes] = []
    if size <= BODY_LIMIT_BYTES:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > BODY_LIMIT_BYTES:
                break
            parts.append(chunk)
    if size > BODY_LIMIT_BYTES:
        raise EventTooLarge(
            f"the body has more than the {BODY_LIMIT_BYTES} bytes that are accepted"
        )
    return b"".join(parts)


def _with_lifespan(app: Any, function: Function, needs: Any, clock: Clock) -> App:
    """Return the application with a life of its own: the framework's has no hook for ours."""

    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        task = asyncio.create_task(_reconcile(function, needs, clock))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await send({"type": "lifespan.shutdown.complete"})

    return with_lifespan


async def _reconcile(function: Function, needs: Any, clock: Clock) -> None:
    every = function.spec.reconcile_every
    if every is None or function.reconcile is None:
        return
    while True:
        try:
            await function.reconcile(needs)
        except TemporaryError as error:
            _LOG.warning("%s could not reconcile: %s", function.spec.slug, error)
            await clock.sleep(error.retry_after)
        else:
            await clock.sleep(every)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, before anything else is started.

    Raises:
        StartupError: The port is taken, or this machine does not have the address.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
    except OSError as error:
        raise _unusable(host, port, error) from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        # Now, not when the server is ready: until then a second process could bind as well.
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise _unusable(host, port, error) from error
    return opened


def _unusable(host: str, port: int, error: OSError) -> StartupError:
    if error.errno == errno.EADDRINUSE:
        return StartupError(
            f"Port {port} on {host} is in use.",
            remedy="Stop what listens there, or choose another INTEGR8S_PORT; 0 picks a free one.",
        )
    if error.errno == errno.EACCES:
        return StartupError(
            f"Port {port} may not be used by this user.",
            remedy="Choose an INTEGR8S_PORT from 1024 on.",
        )
    return StartupError(
        f"The address {host} cannot be listened on: {error.strerror}.",
        remedy="Set INTEGR8S_HOST to an address of this machine, such as 127.0.0.1.",
    )


class Server(uvicorn.Server):
    """uvicorn as one of several tasks: signals, logs and the end are its process's business."""

    def __init__(self, app: Any, *, drain: timedelta) -> None:
        """Serve an ASGI application; `drain` is how long open answers may take at the end."""
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(drain.total_seconds()),
            timeout_keep_alive=_KEEP_ALIVE,
            backlog=_BACKLOG,
            http="httptools",
            ws="none",
        )
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    async def run_on(self, opened: socket.socket) -> None:
        """Answer requests until `stop`, then finish those that are open.

        Raises:
            RuntimeError: The application refused to start; its log says why.
        """
        try:
            await self.serve([opened])
        except SystemExit as error:
            raise RuntimeError("the application refused to start") from error

    def stop(self) -> None:
        """Take no more requests; `run_on` returns when the open ones are answered."""
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def main_loop(self) -> None:
        """Sleep until asked to stop; uvicorn's own loop wakes ten times a second."""
        self.ready.set()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()
