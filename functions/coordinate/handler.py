"""Own the queue: grant slots in order of rank, take them back, and let nobody wait for ever."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
from shared.events.timers import TimerDue
from shared.ports.alarms import arm
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.publisher import Publisher

SOURCE = "/integr8s/coordinate"
POOL = "default"
_RECENT_RUNS = 100
_PACE_KNOWN = timedelta(seconds=5)
_PAGE = 1_000
_AT_ONCE = 20
_GRANTED_KNOWN = 200
_ALARM_KNOWN = timedelta(seconds=60)
"""How long an alarm that was seen is taken for granted: whoever rings it may have a fast clock."""
_EARLY = timedelta(seconds=1)


@dataclass(slots=True)
class Pace:
    """How long runs take, as one replica knows it."""

    mean: float | None = None
    known_at: float | None = None


@dataclass(slots=True)
class Rounds:
    """Rounds of scheduling in one replica: one at a time, and who asks during one shares the next.

    So a hundred events at once cost two rounds, not a hundred.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    succeeded: int = 0
    """The number of the newest round that came to its end."""
    granted: deque[str] = field(default_factory=lambda: deque(maxlen=_GRANTED_KNOWN))
    """Executions that this replica scheduled last: most are before it hears of their request."""
    over: set[str] = field(default_factory=set)
    """Executions whose slots the next round takes back."""
    alarm_until: datetime | None = None
    """Until then an alarm for the stalest is known to be set."""


class Needs(NamedTuple):
    """The ports of this function, and what one replica remembers."""

    executions: Documents
    pools: Documents
    timers: Documents
    publisher: Publisher
    clock: Clock
    settings: ExecutionSettings
    pace: Pace
    rounds: Rounds


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
            await _next_round(needs, over=event.data.execution_id)
        case TimerDue(kind="expire"):
            await _expire_stale(needs)
            await _set_next_alarm(needs)
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
    await _expire_stale(needs)
    await _next_round(needs)
    await _set_next_alarm(needs)


async def _admit(execution_id: str, needs: Needs) -> None:
    """Schedule a fresh execution if a slot is free for it, else say where it stands."""
    if execution_id not in needs.rounds.granted:
        await _next_round(needs)
    if execution_id in needs.rounds.granted:
        return
    execution = await needs.executions.get(execution_id)
    if execution is None or execution["status"] != Status.QUEUED:
        return
    if execution.get("cancel_requested_at"):
        # The cancel overtook its own request: it holds all the same.
        await _say_cancelled(execution, needs)
    else:
        await _wait(execution, needs)


async def _wait(execution: Document, needs: Needs) -> None:
    """Say the position of an execution that has to wait, and set an end to its waiting."""
    await _set_alarm(execution, execution["accepted_at"] + needs.settings.queue_limit, needs)
    ahead, depth = await asyncio.gather(
        needs.executions.count({"status": Status.QUEUED.value, "rank": {"$lt": execution["rank"]}}),
        needs.executions.count({"status": Status.QUEUED.value}),
    )
    await needs.publisher.publish([await _queued(execution, ahead + 1, depth, needs)])


async def _set_alarm(execution: Document, due_at: datetime, needs: Needs) -> None:
    """See to it that an alarm rings by then: one is enough for all that wait, set by the stalest.

    When it rings, it is set anew for the stalest that is left.
    """
    now, known = needs.clock.now(), needs.rounds.alarm_until
    if known is not None and now < known:
        return
    rings_at = await arm(
        needs.timers,
        target="coordinate",
        kind="expire",
        key=POOL,
        due_at=due_at,
        correlation_id=execution["correlation_id"],
        traceparent=execution["traceparent"],
    )
    needs.rounds.alarm_until = min(rings_at, now + _ALARM_KNOWN)


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


async def _next_round(needs: Needs, *, over: str | None = None) -> None:
    """Return once a round that began after this call has granted whatever there was to grant.

    Args:
        needs: The ports.
        over: An execution whose slot it has to take back first.
    """
    rounds = needs.rounds
    if over is not None:
        rounds.over.add(over)
    wanted = rounds.begun + 1
    async with rounds.lock:
        if rounds.succeeded >= wanted:
            return
        rounds.begun += 1
        gone = frozenset(rounds.over)
        await _round(gone, needs)
        rounds.over -= gone
        rounds.succeeded = rounds.begun


async def _round(over: Collection[str], needs: Needs) -> None:
    """Take slots back and grant the free ones to the best ranked, in one write of the ledger.

    A crash between that write and those of the executions leaves slots held by queued ones, which
    the next round or `reconcile` finishes. An execution that vanished in between costs nothing.
    """
    while True:
        pool = await _pool(needs)
        left = rules.without(pool, over)
        waiting = await _best(left, needs)
        grants = rules.grants(left, waiting, needs.settings, at=needs.clock.now())
        if not await _enter(pool, left, grants, needs):
            continue  # another replica wrote first
        granted = [one for one in waiting if one["execution_id"] in grants]
        is_used = await asyncio.gather(*(_grant(execution, needs) for execution in granted))
        if not granted or (all(is_used) and len(waiting) < _sought(left)):
            return  # nobody is left who could have one


async def _best(pool: rules.Pool, needs: Needs) -> Sequence[Document]:
    """Return the best ranked for the free slots, but for users who run as many as they may."""
    if not _sought(pool):
        return []
    skipped = rules.users_at_limit(pool, needs.settings)
    return await needs.executions.find(
        {
            "status": Status.QUEUED.value,
            "cancel_requested_at": None,
            **({"user_id": {"$nin": skipped}} if skipped else {}),
        },
        sort=[("rank", 1)],
        limit=_sought(pool),
    )


def _sought(pool: rules.Pool) -> int:
    """Return for how many slots somebody is looked for at a time: each comes with its script."""
    return min(rules.free_slots(pool), _AT_ONCE)


async def _enter(pool: Document, left: rules.Pool, grants: Mapping[str, Any], needs: Needs) -> bool:
    """Write the ledger as it should be now; say whether nobody else did meanwhile."""
    fresh = {key: holding for key, holding in grants.items() if key not in left["holders"]}
    gone = pool["holders"].keys() - left["holders"].keys()
    if not fresh and not gone:
        return True
    entered = await needs.pools.change(
        POOL,
        when={"version": pool["version"]},
        set={f"holders.{execution_id}": holding for execution_id, holding in fresh.items()},
        unset=[f"holders.{execution_id}" for execution_id in sorted(gone)],
    )
    return entered is not None


async def _grant(execution: Document, needs: Needs) -> bool:
    """Schedule an execution that has its slot; say whether it uses it."""
    now = needs.clock.now()
    granted = {**execution, "scheduled_at": now}
    scheduled = await needs.executions.change(
        execution["execution_id"],
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
        await _release_unless_running(execution["execution_id"], needs)
        return False
    needs.rounds.granted.append(execution["execution_id"])
    return True


async def _release_unless_running(execution_id: str, needs: Needs) -> None:
    execution = await needs.executions.get(execution_id)
    if execution is None or execution["status"] in (TERMINAL | {Status.QUEUED}):
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


async def _expire_stale(needs: Needs) -> None:
    """Refuse what has waited for the whole queue limit."""
    waiting = await needs.executions.find(
        {"status": Status.QUEUED.value, "accepted_at": {"$lte": _stale(needs)}},
        sort=[("accepted_at", 1)],
        limit=_PAGE,
    )
    await needs.publisher.publish([_expired(execution, needs) for execution in waiting])


async def _set_next_alarm(needs: Needs) -> None:
    """Set the alarm for the stalest that waits, if any does.

    Those that are stale already were refused, and wait until that is stored; whatever of them was
    left over is `reconcile`'s, a minute later at most while anybody is awake.
    """
    needs.rounds.alarm_until = None
    stalest = await needs.executions.find(
        {"status": Status.QUEUED.value, "accepted_at": {"$gt": _stale(needs)}},
        sort=[("accepted_at", 1)],
        limit=1,
    )
    for execution in stalest:
        due_at = execution["accepted_at"] + needs.settings.queue_limit
        await _set_alarm(execution, due_at, needs)


def _stale(needs: Needs) -> datetime:
    """Return when it was accepted what is to be refused now."""
    return needs.clock.now() - needs.settings.queue_limit + _EARLY


def _expired(execution: Document, needs: Needs) -> Event:
    seconds = int(needs.settings.queue_limit.total_seconds())
    rejected = ExecutionRejected(
        execution_id=execution["execution_id"],
        user_id=execution["user_id"],
        code="queue_expired",
        message=f"It waited {seconds} s for a free slot, and none came.",
        limit=seconds,
    )
    return of_execution(execution, rejected, source=SOURCE, at=needs.clock.now())
