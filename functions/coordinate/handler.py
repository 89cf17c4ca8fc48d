"""Own the queue: grant slots in order of rank, take them back, and let nobody wait for ever."""

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from functions.coordinate import rules
from shared.domain.errors import AlreadyExists
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import TERMINAL, Status
from shared.events.event import Event
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCancelRequested,
    ExecutionQueued,
    ExecutionRejected,
    ExecutionRequested,
    ExecutionScheduled,
)
from shared.events.origins import of_execution, order_of
from shared.events.results import ResultStored
from shared.events.timers import TimerDue, timer
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.publisher import Publisher

SOURCE = "/integr8s/coordinate"
POOL = "default"
_RECENT_RUNS = 100
_PACE_KNOWN = timedelta(seconds=5)
_RECONCILE_PAGE = 100


@dataclass(slots=True)
class Pace:
    """How long runs take, as one replica knows it."""

    mean: float | None = None
    known_at: float | None = None


class Needs(NamedTuple):
    """The ports of this function, and what one replica remembers."""

    executions: Documents
    pools: Documents
    timers: Documents
    publisher: Publisher
    clock: Clock
    settings: ExecutionSettings
    pace: Pace


async def handle(event: Event, needs: Needs) -> None:
    """Admit, cancel, free or expire, whatever the event asks for.

    Idempotent by state: a redelivery finds the slot taken or given back, and says the same events
    under the same ids.
    """
    match event.data:
        case ExecutionRequested():
            await _admit(event.data.execution_id, needs)
        case ExecutionCancelRequested():
            await _cancel(event.data.execution_id, needs)
        case ResultStored():
            await _release(event.data.execution_id, needs)
            await _schedule(needs)
        case TimerDue(kind="expire"):
            await _expire(event.data.key, needs)
        case _:
            pass


async def reconcile(needs: Needs) -> None:
    """Put right what a crash between two writes left: slots of finished runs, half-made grants.

    Called when a replica starts and every minute while it is awake.
    """
    pool = await _resized(await _pool(needs), needs)
    for execution_id in sorted(pool["holders"]):
        execution = await needs.executions.get(execution_id)
        if execution is None or execution["status"] in TERMINAL:
            await _give_back(execution_id, needs)
        elif execution["status"] == Status.QUEUED:
            await _grant(execution, needs)
    stale = needs.clock.now() - needs.settings.queue_limit
    waiting = await needs.executions.find(
        {"status": Status.QUEUED.value}, sort=[("rank", 1)], limit=_RECONCILE_PAGE
    )
    for execution in waiting:
        if execution["accepted_at"] <= stale:
            await _expire(execution["execution_id"], needs)
    await _schedule(needs)


async def _admit(execution_id: str, needs: Needs) -> None:
    """Schedule a fresh execution if a slot is free for it, else say where it stands."""
    execution = await needs.executions.get(execution_id)
    if execution is None or execution["status"] != Status.QUEUED:
        return
    if execution.get("cancel_requested_at"):
        # The cancel overtook its own request: it holds all the same.
        await _say_cancelled(execution, needs)
        return
    pool = await _pool(needs)
    if execution["user_id"] not in rules.users_at_limit(pool, needs.settings):
        await _schedule(needs)
        execution = await needs.executions.get(execution_id)
        if execution is None or execution["status"] != Status.QUEUED:
            return
    await _wait(execution, needs)


async def _wait(execution: Document, needs: Needs) -> None:
    """Say the position of an execution that has to wait, and set an end to its waiting."""
    timer_id, document = timer(
        target="coordinate",
        kind="expire",
        key=execution["execution_id"],
        due_at=execution["accepted_at"] + needs.settings.queue_limit,
        correlation_id=execution["correlation_id"],
        traceparent=execution["traceparent"],
    )
    with contextlib.suppress(AlreadyExists):  # a redelivery: the timer is armed
        await needs.timers.insert(timer_id, document)
    ahead = await needs.executions.count(
        {"status": Status.QUEUED.value, "rank": {"$lt": execution["rank"]}}
    )
    depth = await needs.executions.count({"status": Status.QUEUED.value})
    await needs.publisher.publish([await _queued(execution, ahead + 1, depth, needs)])


async def _queued(execution: Document, position: int, depth: int, needs: Needs) -> Event:
    wait: float | None = 0.0
    if position:
        slots = needs.settings.max_concurrent_executions
        wait = rules.estimated_wait(position, await _mean_duration(needs), slots)
    return of_execution(
        execution,
        ExecutionQueued(
            execution_id=execution["execution_id"],
            user_id=execution["user_id"],
            position=position,
            estimated_wait_seconds=wait,
            priority=execution["priority"],
            queue_depth=depth,
        ),
        source=SOURCE,
        at=needs.clock.now(),
        step="granted" if position == 0 else "waiting",
    )


async def _mean_duration(needs: Needs) -> float | None:
    """Return the mean duration of the last runs, looked up every few seconds: it is a guess."""
    pace, now = needs.pace, needs.clock.monotonic()
    if pace.known_at is None or now - pace.known_at > _PACE_KNOWN.total_seconds():
        recent = await needs.executions.find(
            {"status": Status.COMPLETED.value}, sort=[("rank", -1)], limit=_RECENT_RUNS
        )
        pace.mean, pace.known_at = rules.mean_duration(recent), now
    return pace.mean


async def _schedule(needs: Needs) -> None:
    """Grant free slots to the best ranked, skipping users who run as many as they may."""
    while True:
        pool = await _pool(needs)
        if not rules.has_room(pool):
            return
        skipped = rules.users_at_limit(pool, needs.settings)
        best = await needs.executions.find(
            {
                "status": Status.QUEUED.value,
                "cancel_requested_at": None,
                **({"user_id": {"$nin": skipped}} if skipped else {}),
            },
            sort=[("rank", 1)],
            limit=1,
        )
        if not best:
            return
        if not await _grant(best[0], needs) and not await _is_at_limit(best[0], needs):
            return


async def _is_at_limit(execution: Document, needs: Needs) -> bool:
    """Say whether its user got the last allowed slot meanwhile: then the next user's turn is it."""
    at_limit = rules.users_at_limit(await _pool(needs), needs.settings)
    return execution["user_id"] in at_limit


async def _grant(execution: Document, needs: Needs) -> bool:
    """Take a slot, then schedule; say whether scheduling may go on to the next.

    A crash between the two writes leaves a slot held by a queued execution, which the next event or
    `reconcile` finishes. An execution that vanished in between costs nothing.
    """
    execution_id = execution["execution_id"]
    if not await _take(execution, needs):
        return False
    now = needs.clock.now()
    granted = {**execution, "scheduled_at": now}
    scheduled = await needs.executions.change(
        execution_id,
        when={"status": Status.QUEUED.value, "cancel_requested_at": None},
        set={"status": Status.SCHEDULED.value, "scheduled_at": now, "updated_at": now},
        emit=[
            await _queued(granted, 0, 0, needs),
            of_execution(
                granted,
                ExecutionScheduled(**order_of(granted), pool=POOL, scheduled_at=now),
                source=SOURCE,
                at=now,
            ),
        ],
    )
    if scheduled is None:
        await _release_unless_running(execution_id, needs)
    else:
        await needs.timers.delete(f"coordinate:expire:{execution_id}")
    return True


async def _take(execution: Document, needs: Needs) -> bool:
    """Enter an execution into the ledger, once; say whether it holds its slot now."""
    execution_id = execution["execution_id"]
    wanted = rules.holding(execution, needs.clock.now())
    while True:
        pool = await _pool(needs)
        if execution_id in pool["holders"]:
            return True
        if not rules.fits(pool, wanted):
            return False
        if wanted["user"] in rules.users_at_limit(pool, needs.settings):
            return False
        taken = await needs.pools.change(
            POOL, when={"version": pool["version"]}, set={f"holders.{execution_id}": wanted}
        )
        if taken is not None:
            return True


async def _release_unless_running(execution_id: str, needs: Needs) -> None:
    execution = await needs.executions.get(execution_id)
    if execution is None or execution["status"] in (TERMINAL | {Status.QUEUED}):
        await _give_back(execution_id, needs)


async def _release(execution_id: str, needs: Needs) -> None:
    await needs.timers.delete(f"coordinate:expire:{execution_id}")
    await _give_back(execution_id, needs)


async def _give_back(execution_id: str, needs: Needs) -> None:
    """Take an execution out of the ledger; one that is not in it changes nothing."""
    path = f"holders.{execution_id}"
    await needs.pools.change(POOL, when={path: {"$exists": True}}, unset=[path])


async def _pool(needs: Needs) -> Document:
    pool = await needs.pools.get(POOL)
    if pool is not None:
        return pool
    try:
        return await needs.pools.insert(POOL, rules.new_pool(POOL, needs.settings))
    except AlreadyExists:
        return await _pool(needs)


async def _resized(pool: Document, needs: Needs) -> Document:
    """Give the pool the capacity that is set now; the document may stem from an earlier setting."""
    capacity = rules.capacity(needs.settings)
    if pool["capacity"] == capacity:
        return pool
    return await needs.pools.change(POOL, set={"capacity": capacity}) or await _pool(needs)


async def _cancel(execution_id: str, needs: Needs) -> None:
    """End what still waits; everything later is the saga's to end."""
    execution = await needs.executions.get(execution_id)
    if execution is not None and execution["status"] == Status.QUEUED:
        await _say_cancelled(execution, needs)


async def _say_cancelled(execution: Document, needs: Needs) -> None:
    cancelled = ExecutionCancelled(
        execution_id=execution["execution_id"],
        user_id=execution["user_id"],
        cancelled_by=execution.get("cancelled_by") or execution["user_id"],
        reason=execution.get("cancel_reason"),
        phase="queued",
        finished_at=needs.clock.now(),
    )
    event = of_execution(execution, cancelled, source=SOURCE, at=needs.clock.now())
    await needs.publisher.publish([event])


async def _expire(execution_id: str, needs: Needs) -> None:
    """Refuse what waited for the whole queue limit."""
    execution = await needs.executions.get(execution_id)
    limit = needs.settings.queue_limit
    if execution is None or execution["status"] != Status.QUEUED:
        return
    if needs.clock.now() < execution["accepted_at"] + limit - timedelta(seconds=1):
        return
    rejected = ExecutionRejected(
        execution_id=execution_id,
        user_id=execution["user_id"],
        code="queue_expired",
        message=f"It waited {int(limit.total_seconds())} s for a free slot, and none came.",
        limit=int(limit.total_seconds()),
    )
    event = of_execution(execution, rejected, source=SOURCE, at=needs.clock.now())
    await needs.publisher.publish([event])
