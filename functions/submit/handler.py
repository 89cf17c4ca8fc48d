"""Accept an execution: one write of its document and of the event that tells of it."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import orjson

from functions.submit import rules
from shared.domain.errors import AlreadyExists, Refusal, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import Status
from shared.domain.identifiers import derived_id
from shared.domain.runtimes import Offer
from shared.events.event import Event
from shared.events.executions import ExecutionRejected, ExecutionRequested, ExecutionSubmit
from shared.events.origins import of_execution, order_of
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.ids import Ids
from shared.ports.publisher import Publisher

SOURCE = "/integr8s/submit"
_LEASE = timedelta(seconds=30)
_KEY_KEPT = timedelta(hours=24)
_SOURCE_KEPT = timedelta(days=90)
_ROOM_KNOWN = timedelta(milliseconds=100)


@dataclass(slots=True)
class Room:
    """How full the queue is, as one process knows it; while it is not even half full, no more."""

    waiting: int = 0
    """What was counted, and what this process accepted since."""
    known_until: float = 0.0
    """On the monotonic clock."""


class Needs(NamedTuple):
    """The ports of this function."""

    executions: Documents
    idempotency_keys: Documents
    publisher: Publisher
    clock: Clock
    ids: Ids
    offer: Offer
    settings: ExecutionSettings
    room: Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as a front hands it on: the body is parsed JSON, and nothing in it is trusted."""

    body: Mapping[str, Any]
    user_id: str
    may_raise_priority: bool
    correlation_id: str
    traceparent: str
    idempotency_key: str | None = None
    path: str = "/api/v1/execute"
    source: str | None = None
    """`source` and `id` of the CloudEvent that asks, its natural idempotency key."""
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The execution that a request became, now or the first time it was sent."""

    execution_id: str
    replayed: bool = False


async def handle(event: Event, needs: Needs) -> None:
    """Accept what another system posted to the topic of submissions.

    A refusal goes to the event history, caused by the event that was refused: there is nobody else
    to tell.
    """
    if not isinstance(event.data, ExecutionSubmit):
        return
    request = Request(
        body=event.data.model_extra or {},
        user_id=event.source,
        may_raise_priority=False,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        source=f"{event.source} {event.id}",
    )
    try:
        await submit(request, needs)
    except Refusal as refusal:
        if refusal.retry_after is not None:
            raise TemporaryError(refusal.detail, retry_after=refusal.retry_after) from refusal
        rejected = ExecutionRejected(code=refusal.code, message=refusal.detail)
        # Not under the subject that a stranger chose: it could name somebody's execution.
        subject = derived_id(f"{event.source} {event.id}", "submission")
        said = event.then(rejected, source=SOURCE, at=needs.clock.now(), subject=subject)
        await needs.publisher.publish([said])


async def submit(request: Request, needs: Needs) -> Accepted:
    """Accept a request once, however often it is sent under one key.

    Raises:
        Refusal: It is not valid, or there is no room; nothing was stored.
        TemporaryError: The store gave no answer; sending it again under the same key is safe.
    """
    wanted = rules.order(
        request.body,
        offer=needs.offer,
        settings=needs.settings,
        may_raise_priority=request.may_raise_priority,
    )
    key = _key(request)
    if key is None:
        execution_id = needs.ids.new()
        await _accept(request, wanted, execution_id, needs)
        return Accepted(execution_id)
    reservation = await _reserve(key, request, needs)
    execution_id = reservation["execution_id"]
    if reservation["state"] == "completed":
        return Accepted(execution_id, replayed=True)
    try:
        await _accept(request, wanted, execution_id, needs)
    except Refusal:
        if await needs.executions.get(execution_id) is None:
            # A refused request burns nothing: the key is free for the next try.
            await needs.idempotency_keys.delete(key, when={"version": reservation["version"]})
            raise
        # No room any more, but an earlier request under the key had found some before it died.
    await needs.idempotency_keys.change(
        key, when={"execution_id": execution_id}, set={"state": "completed"}
    )
    return Accepted(execution_id)


def _key(request: Request) -> str | None:
    if request.source is not None:
        return hashlib.sha256(f"event {request.source}".encode()).hexdigest()
    if request.idempotency_key is None:
        return None
    text = f"user {request.user_id} {request.idempotency_key}"
    return hashlib.sha256(text.encode()).hexdigest()


async def _reserve(key: str, request: Request, needs: Needs) -> Document:
    """Take the key for this request, or return what its first request became.

    The id of the execution is chosen here: should this process die before it answers, the next
    request under the key takes up the same execution instead of making another.
    """
    now = needs.clock.now()
    mark = rules.fingerprint(request.body, request.path, _canonical)
    fresh = {
        "fingerprint": mark,
        "state": "running",
        "lease_until": now + _LEASE,
        "execution_id": needs.ids.new(),
        "created_at": now,
        "expires_at": now + (_SOURCE_KEPT if request.source else _KEY_KEPT),
    }
    try:
        return await needs.idempotency_keys.insert(key, fresh)
    except AlreadyExists:
        held = await needs.idempotency_keys.get(key)
    if held is None:
        return await _reserve(key, request, needs)
    if held["expires_at"] <= now:
        await needs.idempotency_keys.delete(key, when={"version": held["version"]})
        return await _reserve(key, request, needs)
    if held["fingerprint"] != mark and request.source is None:
        detail = "This Idempotency-Key was used with another request; choose a new key."
        raise Refusal("idempotency_mismatch", detail)
    if held["state"] == "completed":
        return held
    if held["lease_until"] > now:
        detail = "The first request with this Idempotency-Key is still running; ask again."
        raise Refusal("idempotency_in_flight", detail, retry_after=timedelta(seconds=1))
    taken = await needs.idempotency_keys.change(
        key, when={"version": held["version"]}, set={"lease_until": now + _LEASE}
    )
    return taken or await _reserve(key, request, needs)


def _canonical(body: Any) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


async def _accept(request: Request, wanted: rules.Order, execution_id: str, needs: Needs) -> None:
    """Store the execution and its first event in one write, if there is room."""
    await _refuse_without_room(request.user_id, needs)
    document = rules.execution_document(
        wanted,
        execution_id=execution_id,
        user_id=request.user_id,
        at=needs.clock.now(),
        settings=needs.settings,
        trace={"correlation_id": request.correlation_id, "traceparent": request.traceparent},
        source=request.source,
        retry_of=request.retry_of,
    )
    requested = of_execution(
        document,
        ExecutionRequested(**order_of(document)),
        source=SOURCE,
        at=document["accepted_at"],
    )
    # It is there where an earlier request under the same key stored it and died before its answer.
    with contextlib.suppress(AlreadyExists):
        await needs.executions.insert(execution_id, document, emit=[requested])
    # What was accepted is never lost, not even by loss of power.
    await needs.executions.flush()


async def _refuse_without_room(user_id: str, needs: Needs) -> None:
    settings, room = needs.settings, needs.room
    smallest = min(settings.queued_per_user, settings.queue_length)
    now = needs.clock.monotonic()
    if now < room.known_until and room.waiting < smallest // 2:
        room.waiting += 1
        return  # other processes do not fill half of it within this time
    depth = await needs.executions.count(
        {"status": Status.QUEUED.value}, limit=settings.queue_length
    )
    room.waiting, room.known_until = depth + 1, now + _ROOM_KNOWN.total_seconds()
    if depth < smallest:
        return  # nobody has more of them than there are
    mine = await needs.executions.count(
        {"user_id": user_id, "status": Status.QUEUED.value}, limit=settings.queued_per_user
    )
    if mine >= settings.queued_per_user:
        detail = (
            f"You have {mine} executions waiting, and {settings.queued_per_user} may wait;"
            " try again when some have started."
        )
        context = {"limit": settings.queued_per_user, "current": mine}
        raise Refusal("user_queue_full", detail, retry_after=timedelta(seconds=5), context=context)
    if depth >= settings.queue_length:
        detail = f"The queue is full with {depth} executions; try again later."
        context = {"limit": settings.queue_length, "current": depth}
        raise Refusal("queue_full", detail, retry_after=timedelta(seconds=30), context=context)
