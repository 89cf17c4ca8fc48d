"""Slots are granted in order of rank, and never leak."""

import asyncio
from typing import Any

import pytest

from functions.coordinate import rules
from functions.coordinate.handler import POOL, Needs, Pace, Rounds, handle, reconcile
from shared.domain.errors import TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import Priority
from shared.events.event import Event
from shared.events.executions import ExecutionCancelRequested, ExecutionRequested
from shared.events.origins import order_of
from shared.events.results import ResultStored
from shared.events.timers import TimerDue
from tests import builders
from tests.builders import START, Counted, World, execution_id, seconds


def needs_of(world: World, **settings: Any) -> Needs:
    """Return the ports of the function: two slots, one user may have both."""
    given = {"max_concurrent_executions": 2, **settings}
    return Needs(
        executions=world.documents("executions"),
        pools=world.documents("pools"),
        timers=world.documents("timers"),
        publisher=world.said,
        clock=world.clock,
        settings=ExecutionSettings(**given),
        pace=Pace(),
        rounds=Rounds(),
    )


async def add(world: World, *numbers: int, **changes: Any) -> None:
    """Store executions, a second apart."""
    for number in numbers:
        at = START + seconds(number)
        await world.add_execution(execution_id=execution_id(number), at=at, **changes)


def requested(number: int) -> Event:
    """Return the request of an execution."""
    one = builders.execution(execution_id(number))
    return builders.event(ExecutionRequested(**order_of(one)), subject=execution_id(number))


def stored(number: int) -> Event:
    """Return that its result is in."""
    result = ResultStored(
        execution_id=execution_id(number),
        user_id="u",
        status="completed",
        storage_path="",
        size_bytes=0,
        result={},
    )
    return builders.event(result, subject=execution_id(number))


def cancel(number: int) -> Event:
    """Return that somebody wants its end."""
    data = ExecutionCancelRequested(
        execution_id=execution_id(number), user_id="u", cancelled_by="u"
    )
    return builders.event(data, subject=execution_id(number))


async def statuses(world: World) -> list[str]:
    """Return the status of every execution, in order of their numbers."""
    found = await world.documents("executions").find(sort=[("execution_id", 1)])
    return [document["status"] for document in found]


async def holders(world: World) -> list[str]:
    """Return who holds a slot."""
    pool = await world.documents("pools").get(POOL)
    return sorted(pool["holders"]) if pool else []


async def end(world: World, number: int, status: str = "completed") -> None:
    """Let an execution be over."""
    await world.documents("executions").change(execution_id(number), set={"status": status})


async def test_a_request_that_comes_after_its_grant_asks_nothing(world: World) -> None:
    """The round of another one has scheduled it: most are found in the queue before their word."""
    await add(world, 1, 2)
    executions: Any = Counted(world.documents("executions"), world.clock)
    pools: Any = Counted(world.documents("pools"), world.clock)
    needs = needs_of(world)._replace(executions=executions, pools=pools)
    await handle(requested(1), needs)
    assert await statuses(world) == ["scheduled", "scheduled"]

    executions.calls.clear()
    pools.calls.clear()
    await handle(requested(2), needs)
    assert not executions.calls
    assert not pools.calls


async def test_a_free_slot_is_granted_at_once(world: World) -> None:
    """State, position 0 and work in one write."""
    await add(world, 1)
    await handle(requested(1), needs_of(world))

    assert await statuses(world) == ["scheduled"]
    assert await holders(world) == [execution_id(1)]
    emitted = [event.type for event in await world.emitted("executions")]
    assert emitted == ["execution.queued", "execution.scheduled"]


async def test_without_a_slot_it_hears_its_position(world: World) -> None:
    """And its patience has an end."""
    await add(world, 1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        await handle(requested(number), needs_of(world))

    positions = [event.data.position for event in world.said.events]  # type: ignore[attr-defined]
    assert positions == [1, 2]
    assert await world.documents("timers").count({"due_at": START + seconds(3603)}) == 1


async def test_redelivery_changes_nothing(world: World) -> None:
    """The same slot, the same events."""
    await add(world, 1, 2, 3)
    for number in (1, 1, 2, 2, 3, 3):
        await handle(requested(number), needs_of(world))

    assert await statuses(world) == ["scheduled", "scheduled", "queued"]
    assert len({event.id for event in world.said.events}) == 1


async def test_a_result_frees_its_slot_for_the_next(world: World) -> None:
    """Once, however often it is told."""
    await add(world, 1, 2, 3)
    await handle(requested(1), needs_of(world))
    await handle(requested(2), needs_of(world))
    await end(world, 1)

    await handle(stored(1), needs_of(world))
    await handle(stored(1), needs_of(world))

    assert await statuses(world) == ["completed", "scheduled", "scheduled"]
    assert await holders(world) == [execution_id(2), execution_id(3)]


async def test_the_best_rank_goes_first(world: World) -> None:
    """Not the event that happens to arrive."""
    await add(world, 1, priority=Priority.LOW)
    await add(world, 2, priority=Priority.NORMAL)

    await handle(requested(1), needs_of(world, max_concurrent_executions=1))

    assert await statuses(world) == ["queued", "scheduled"]


async def test_a_user_at_the_limit_holds_nobody_up(world: World) -> None:
    """The next user's execution is taken instead."""
    needs = needs_of(world, max_concurrent_executions=3, max_concurrent_per_user=1)
    await add(world, 1, 2, user_id="a")
    await add(world, 3, user_id="b")

    await handle(requested(1), needs)

    assert await statuses(world) == ["scheduled", "queued", "scheduled"]


class _Late:
    """Pools in which another replica takes a slot just before ours would."""

    def __init__(self, world: World, user: str) -> None:
        self.inner = world.documents("pools")
        self.user = user
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def change(self, key: str, **rest: Any) -> Any:
        """Let the other replica in after the choice."""
        self.writes += 1
        if self.writes == 1:
            taken = {"user": self.user, "cpu": 1, "memory": 1, "since": START}
            await self.inner.change(key, set={"holders.other": taken})
        return await self.inner.change(key, **rest)


async def test_a_slot_lost_to_the_users_own_other_run_goes_to_the_next_user(
    world: World,
) -> None:
    """Two replicas at once: what one user may not have any more, another one gets now."""
    settings = {"max_concurrent_executions": 3, "max_concurrent_per_user": 1}
    needs = needs_of(world, **settings)
    await add(world, 1, user_id="a")
    await add(world, 2, user_id="b")
    await world.documents("pools").insert(POOL, rules.new_pool(POOL, needs.settings))
    late = _Late(world, "a")

    await handle(requested(1), needs._replace(pools=late))

    assert late.writes == 2
    assert await statuses(world) == ["queued", "scheduled"]


async def test_a_queued_one_is_cancelled_here(world: World) -> None:
    """Its slot was never taken."""
    await add(world, 1, cancel_requested_at=START, cancelled_by="u", cancel_reason="enough")

    await handle(cancel(1), needs_of(world))

    (said,) = world.said.events
    assert said.type == "execution.cancelled"
    assert said.data.phase == "queued"  # type: ignore[attr-defined]
    assert await holders(world) == []


async def test_a_cancel_that_overtook_its_request_holds(world: World) -> None:
    """It is never scheduled."""
    await add(world, 1, cancel_requested_at=START)

    await handle(cancel(1), needs_of(world))
    await handle(requested(1), needs_of(world))

    assert await statuses(world) == ["queued"]
    assert {event.type for event in world.said.events} == {"execution.cancelled"}
    assert len({event.id for event in world.said.events}) == 1


@pytest.mark.parametrize("status", ["scheduled", "launching", "running", "completed", "error"])
async def test_what_is_past_the_queue_is_not_cancelled_here(world: World, status: str) -> None:
    """That is the saga's business."""
    await add(world, 1, status=status, cancel_requested_at=START)

    await handle(cancel(1), needs_of(world))

    assert world.said.events == []


def expire(number: int) -> Event:
    """Return that its patience is over."""
    due = TimerDue(
        timer_id="t", target="coordinate", kind="expire", key=execution_id(number), due_at=START
    )
    return builders.event(due, subject=execution_id(number))


async def test_a_stale_one_is_rejected(world: World) -> None:
    """After the whole queue limit, not before."""
    await add(world, 1)
    await handle(expire(1), needs_of(world))
    assert world.said.events == []
    await world.clock.advance(seconds(3601))

    await handle(expire(1), needs_of(world))

    (said,) = world.said.events
    assert said.data.code == "queue_expired"  # type: ignore[attr-defined]


async def test_a_scheduled_one_never_expires(world: World) -> None:
    """Its alarm was too late."""
    await add(world, 1, status="running")
    await world.clock.advance(seconds(4000))

    await handle(expire(1), needs_of(world))

    assert world.said.events == []


@pytest.mark.parametrize("status", ["completed", "failed", "timeout", "cancelled", "error"])
async def test_reconcile_frees_slots_of_what_is_over(world: World, status: str) -> None:
    """A crash between slot and state leaves no slot taken for ever."""
    await add(world, 1)
    await handle(requested(1), needs_of(world))
    await end(world, 1, status)

    await reconcile(needs_of(world))

    assert await holders(world) == []


async def test_reconcile_finishes_a_half_made_grant(world: World) -> None:
    """A slot taken and not used: the execution gets it."""
    await add(world, 1)
    needs = needs_of(world)
    await reconcile(needs)
    (one,) = await world.documents("executions").find()
    await world.documents("executions").change(one["_id"], set={"status": "queued"})

    await reconcile(needs)

    assert await statuses(world) == ["scheduled"]
    assert await holders(world) == [execution_id(1)]


async def test_reconcile_frees_a_half_made_grant_that_was_cancelled(world: World) -> None:
    """The cancel won: the slot is for somebody else."""
    await add(world, 1)
    needs = needs_of(world)
    await reconcile(needs)
    await world.documents("executions").change(
        execution_id(1), set={"status": "queued", "cancel_requested_at": START}
    )

    await reconcile(needs)

    assert await statuses(world) == ["queued"]
    assert await holders(world) == []


async def test_reconcile_frees_slots_of_nobody(world: World) -> None:
    """An execution that was deleted holds nothing."""
    await add(world, 1)
    await reconcile(needs_of(world))
    await world.documents("executions").delete(execution_id(1))

    await reconcile(needs_of(world))

    assert await holders(world) == []


async def test_reconcile_rejects_what_waits_too_long(world: World) -> None:
    """Where the alarm was lost."""
    await add(world, 1, cancel_requested_at=None, user_id="a")
    await world.clock.advance(seconds(3700))

    await reconcile(needs_of(world, max_concurrent_executions=0))

    assert world.said.types == ["execution.rejected"]


async def test_a_new_setting_changes_the_pool(world: World) -> None:
    """A restart with other settings is enough."""
    await reconcile(needs_of(world))

    await reconcile(needs_of(world, max_concurrent_executions=7))

    pool = await world.documents("pools").get(POOL)
    assert pool is not None
    assert pool["capacity"]["slots"] == 7


async def test_a_hundred_runs_and_ten_failures_leave_the_pool_empty(world: World) -> None:
    """However it ended."""
    needs = needs_of(world)
    await add(world, *range(1, 111))
    for number in range(1, 111):
        await handle(requested(number), needs)
        await end(world, number, "failed" if number > 100 else "completed")
        await handle(stored(number), needs)
    # Each freed slot was granted on; those were ended above before they had a word.
    await reconcile(needs)

    assert await holders(world) == []


def slow_pools(world: World) -> Any:
    """Return pools that answer in their own time, as a server does."""
    pauses = {"get": seconds(0), "change": seconds(0)}
    return Counted(world.documents("pools"), world.clock, pauses=pauses)


async def test_what_comes_at_once_shares_rounds(world: World) -> None:
    """One round for the first, one for all who came during it; results give back together too."""
    pools = slow_pools(world)
    needs = needs_of(world, max_concurrent_executions=20)._replace(pools=pools)
    numbers = range(1, 21)
    await add(world, *numbers)

    await asyncio.gather(*(handle(requested(number), needs) for number in numbers))
    for number in numbers:
        await end(world, number)
    await asyncio.gather(*(handle(stored(number), needs) for number in numbers))

    assert await statuses(world) == ["completed"] * 20
    assert await holders(world) == []
    assert pools.calls["change"] <= 4


async def test_whom_a_round_scheduled_is_not_read_again(world: World) -> None:
    """Only who has to wait is told where it stands, and may be cancelled meanwhile."""
    executions: Any = Counted(world.documents("executions"), world.clock)
    needs = needs_of(world, max_concurrent_executions=2)._replace(executions=executions)

    for number in (1, 2, 3):
        await add(world, number)
        await handle(requested(number), needs)

    assert await statuses(world) == ["scheduled", "scheduled", "queued"]
    assert executions.calls["get"] == 1


async def test_a_round_that_fails_fails_only_who_led_it(world: World) -> None:
    """The others lead one of their own, and nobody's slot is forgotten."""
    pools = slow_pools(world)
    needs = needs_of(world, max_concurrent_executions=3)._replace(pools=pools)
    await add(world, 1, 2, 3, 4)
    for number in (1, 2, 3):
        await handle(requested(number), needs)
        await end(world, number)
    pools.failing["change"] = 1

    ends = await asyncio.gather(
        *(handle(stored(number), needs) for number in (1, 2, 3)), return_exceptions=True
    )

    assert [type(one) for one in ends] == [TemporaryError, type(None), type(None)]
    assert await holders(world) == [execution_id(4)]


async def test_one_alarm_rings_for_all_that_wait(world: World) -> None:
    """For the stalest; then for the next."""
    needs = needs_of(world, max_concurrent_executions=0)
    await add(world, 1, 10)
    await handle(requested(1), needs)
    await handle(requested(10), needs)
    timers = world.documents("timers")
    assert [timer["due_at"] for timer in await timers.find()] == [START + seconds(3601)]
    await world.clock.advance(seconds(3601))
    world.said.events.clear()

    await timers.delete("coordinate:expire:default")  # it rang
    await handle(expire(1), needs)

    assert [event.subject for event in world.said.events] == [execution_id(1)]
    await world.documents("executions").change(execution_id(1), set={"status": "error"})
    assert [timer["due_at"] for timer in await timers.find()] == [START + seconds(3610)]


async def test_an_alarm_that_is_ringing_is_kept_for_the_next(world: World) -> None:
    """Whoever rings it removes it afterwards, unless it was moved meanwhile."""
    needs = needs_of(world, max_concurrent_executions=0)
    await add(world, 1)
    await handle(requested(1), needs)
    timers = world.documents("timers")
    ringing = await timers.change(
        "coordinate:expire:default", set={"lease_until": START + seconds(3700)}
    )
    assert ringing is not None
    await add(world, 50)

    await handle(requested(50), needs_of(world, max_concurrent_executions=0))
    is_removed = await timers.delete(
        "coordinate:expire:default", when={"version": ringing["version"]}
    )

    assert not is_removed
    assert [timer["due_at"] for timer in await timers.find()] == [START + seconds(3650)]


async def test_a_large_one_is_not_overtaken_for_ever(world: World) -> None:
    """What does not fit holds up those behind it, also small ones."""
    needs = needs_of(world, max_concurrent_executions=5, pool_cpu_millicores=400)
    large = {"cpu_request": "300m", "memory_request": "1Mi"}
    await add(world, 1)
    limits = (await world.documents("executions").get(execution_id(1)) or {})["limits"]
    await add(world, 2, limits={**limits, **large})
    await add(world, 3)

    await handle(requested(1), needs)

    assert await statuses(world) == ["scheduled", "queued", "queued"]
