"""Who runs when: slots, ranks, limits, and what is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.adapters.scripted.cluster import Play
from shared.domain.execution_settings import ExecutionSettings
from shared.runtime.invariants import check_all
from tests.scenarios.system import System

SECOND = timedelta(seconds=1)


async def order_of_creation(system: System) -> list[str]:
    """Return the executions in the order in which their pods were made."""
    return [deed.spec.execution_id for deed in system.cluster.ledger if deed.what == "create"]


async def test_the_better_priority_goes_first(system: System, plays: dict[str, Play]) -> None:
    """Among those that came together, critical stands before high, normal, low, background."""
    plays["it"] = Play(running=5 * SECOND)
    first = [await system.accepted("it") for _ in range(2)]
    names = ("background", "normal", "critical")
    ids = {name: await system.accepted("it", priority=name) for name in names}

    await system.until_quiet()

    assert await order_of_creation(system) == [
        *first,
        ids["critical"],
        ids["normal"],
        ids["background"],
    ]


async def test_what_waits_long_stands_before_what_is_better(asleep: System) -> None:
    """An old low one passes a new high one by itself, so nobody starves."""
    asleep.start()
    await asleep.accepted("long")
    await asleep.accepted("long")
    asleep.kill("coordinate")
    old = await asleep.accepted(priority="low")
    await asleep.clock_at(60 * 5)
    new = await asleep.accepted(priority="high")

    asleep.start("coordinate")
    await asleep.until_quiet()

    order = await order_of_creation(asleep)
    assert order.index(old) < order.index(new)


@pytest.mark.parametrize(
    "limits",
    [ExecutionSettings(max_concurrent_executions=4, max_concurrent_per_user=2)],
    ids=["four slots, two a user"],
)
async def test_a_user_at_the_cap_blocks_nobody(system: System) -> None:
    """The third run of one user waits, another user's later run does not."""
    for _ in range(2):
        await system.accepted("long")
    third = await system.accepted("long")
    other = await system.accepted("long", user="bert")

    await system.until_status(other, "running", within=2)

    assert await system.status(third) == "queued"
    await system.until_quiet()
    assert check_all(await system.evidence()) == []


async def test_position_is_said(system: System) -> None:
    """Whoever waits learns the place in the queue, and then that it has a slot."""
    for _ in range(2):
        await system.accepted("long")
    await system.accepted("long")
    await system.clock_at(1)
    waiting = await system.accepted("long")
    await system.until_quiet()

    events = await system.collections["events"].find(
        {"execution_id": waiting, "event_type": "execution.queued"}, sort=[("seq", 1)]
    )
    assert [event["data"]["position"] for event in events] == [2, 0]


async def test_a_user_with_too_many_waiting_is_refused(system: System) -> None:
    """The fourth that would wait is refused with 429 and leaves nothing behind."""
    for _ in range(5):
        await system.accepted("long")
        await system.clock_at(system.clock.monotonic() + 0.5)

    refused = await system.submit("long")

    assert (refused.status, refused.body) == (429, "user_queue_full")
    await system.until_quiet()
    assert check_all(await system.evidence()) == []


async def test_a_full_queue_refuses_everybody(system: System) -> None:
    """With five waiting the next one is refused with 503, whoever asks."""
    for number in range(7):
        await system.accepted("long", user=f"user-{number % 4}")
        await system.clock_at(system.clock.monotonic() + 0.5)

    refused = await system.submit("long", user="somebody new")

    assert (refused.status, refused.body) == (503, "queue_full")
    await system.until_quiet()
    assert check_all(await system.evidence()) == []


@pytest.mark.parametrize(
    "limits",
    [ExecutionSettings(max_concurrent_executions=1, max_timeout_seconds=3600)],
    ids=["one slot"],
)
async def test_who_waited_for_an_hour_is_turned_away(
    system: System, plays: dict[str, Play]
) -> None:
    """The entry is stale at the queue limit: it ends as an error that says so, and in time."""
    plays["hours"] = Play(running=timedelta(hours=5))
    await system.accepted("hours", timeout=3600)
    # The slot is given back a moment after the waiting one's hour is over.
    waiting = await system.accepted("long")

    await system.until_quiet(within=3 * 3600)

    found = await system.execution(waiting)
    assert (found["status"], found["error_code"]) == ("error", "queue_expired")
    assert found["finished_at"] - found["accepted_at"] < timedelta(hours=1, seconds=60)
    assert check_all(await system.evidence()) == []


async def test_racing_submits_with_one_key_are_one(system: System) -> None:
    """The first is accepted, a repetition gives its id, another body is refused."""
    first = await system.submit("one", key="k")
    again = await system.submit("one", key="k")
    other = await system.submit("two", key="k")
    stranger = await system.submit("one", key="k", user="bert")

    assert again.execution_id == first.execution_id
    assert (other.status, other.body) == (422, "idempotency_mismatch")
    assert stranger.execution_id != first.execution_id
    await system.until_quiet()
    assert check_all(await system.evidence()) == []


async def test_limits_hold_while_many_come(system: System, limits: ExecutionSettings) -> None:
    """Twenty of five users at once: never more than two run, all end, the pool is empty."""
    system.settings = replace(limits, queue_length=100, queued_per_user=100)
    system.gateway = system.new_gateway()
    for number in range(20):
        await system.accepted(user=f"user-{number % 5}")

    await system.until_quiet(within=300)

    assert check_all(await system.evidence()) == []
    assert system.deeds("create") == 20
