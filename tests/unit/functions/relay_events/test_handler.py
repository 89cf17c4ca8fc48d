"""One history per execution, without gaps and repeats."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from functions.relay_events.handler import History, Needs, Nudges, Writes, handle, handle_batch
from shared.domain.errors import TemporaryError
from shared.events.event import Event
from shared.events.executions import ExecutionOutput, ExecutionRequested, ExecutionStarted
from shared.events.origins import order_of
from shared.events.results import ResultStored
from shared.events.security import AdminAction
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID, Counted, World, seconds

WHO: dict[str, Any] = {"execution_id": EXECUTION_ID, "user_id": USER_ID}


class Heard:
    """Signals of which only the nudges matter."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.is_away = False
        self.is_slow = False

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Keep them, unless away; one that is slow answers the next time."""
        if self.is_away or self.is_slow:
            self.is_slow = False
            raise TemporaryError("away")
        self.messages += messages


def needs_of(world: World, signals: Any = None) -> Needs:
    """Return the ports of a fresh replica."""
    heard: Any = signals or Heard()
    return Needs(
        events=world.documents("events"),
        audit_log=world.documents("audit_log"),
        signals=heard,
        clock=world.clock,
        history=History(),
        writes=Writes(),
        nudges=Nudges(),
    )


def started(event_id: str, **more: Any) -> Event:
    """Return an event of the execution."""
    data = ExecutionStarted(**WHO, pod_name="p", started_at=START)
    return builders.event(data, event_id=event_id, **more)


def output(number: int) -> Event:
    """Return an output of the execution."""
    data = ExecutionOutput(**WHO, stream="stdout", offset=number, data="x", encoding="utf-8")
    return builders.event(data, event_id=f"output-{number}")


def result(outputs: int) -> Event:
    """Return the last word."""
    data = ResultStored(
        **WHO,
        status="completed",
        storage_path="",
        size_bytes=0,
        result={},
        output_events=outputs,
    )
    return builders.event(data, event_id="result")


async def history(world: World) -> list[tuple[int, str]]:
    """Return number and id of everything stored, in order."""
    found = await world.documents("events").find(sort=[("seq", 1)])
    return [(document["seq"], document["event_id"]) for document in found]


async def test_events_are_numbered_from_one(world: World) -> None:
    """In the order in which they come."""
    needs = needs_of(world)
    for name in "abc":
        await handle(started(name), needs)

    assert await history(world) == [(1, "a"), (2, "b"), (3, "c")]


async def test_a_redelivery_gets_no_second_number(world: World) -> None:
    """From the same replica, or another one."""
    needs = needs_of(world)
    for name in "aba":
        await handle(started(name), needs)
    await handle(started("b"), needs_of(world))

    assert await history(world) == [(1, "a"), (2, "b")]


async def test_replicas_share_one_sequence(world: World) -> None:
    """What one remembers is out of date as soon as another has stored."""
    first, second = needs_of(world), needs_of(world)
    for name, needs in (("a", first), ("b", second), ("c", first), ("d", second)):
        await handle(started(name), needs)

    assert await history(world) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


async def test_many_at_once_leave_no_gap(world: World) -> None:
    """Lanes of one execution run side by side."""
    replicas = [needs_of(world), needs_of(world)]
    await asyncio.gather(
        *(handle(started(f"e{number}"), replicas[number % 2]) for number in range(40))
    )

    assert [seq for seq, _ in await history(world)] == list(range(1, 41))


async def test_a_follower_waits_for_its_cause(world: World) -> None:
    """They travel on different topics."""
    needs = needs_of(world)
    follower = started("late", source="/integr8s/monitor-pods", causation_id="early")
    waiting = asyncio.create_task(handle(follower, needs))
    await world.clock.advance(seconds(1))

    await handle(started("early"), needs)
    await waiting

    assert await history(world) == [(1, "early"), (2, "late")]
    assert needs.history.waiting == {}


async def test_what_another_process_stores_is_looked_for_sooner_from_then_on(
    world: World,
) -> None:
    """Whoever numbers an execution expects the rest of it, until it learns that it is shared."""
    needs, other = needs_of(world), needs_of(world)
    await handle(started("first"), needs)
    waited = []
    for name in ("a", "b"):
        await handle(started(name), other)
        begun = world.clock.monotonic()
        follower = started(f"after {name}", source="/integr8s/monitor-pods", causation_id=name)
        waiting = asyncio.create_task(handle(follower, needs))
        while not waiting.done():
            await world.clock.advance(seconds(0.1))
        waited.append(round(world.clock.monotonic() - begun, 3))

    assert waited == [0.5, 0.1]
    names = [name for _, name in await history(world)]
    assert names == ["first", "a", "after a", "b", "after b"]


async def test_a_history_begins_with_the_request_without_a_question(world: World) -> None:
    """One that comes again finds its number taken, and is not stored twice."""
    request = builders.event(ExecutionRequested(**order_of(builders.execution())), event_id="one")
    events: Any = Counted(world.documents("events"), world.clock)

    await handle(request, needs_of(world)._replace(events=events))
    assert events.calls == {"insert_all": 1}
    await handle(started("two"), needs_of(world))
    await handle(request, needs_of(world))

    assert await history(world) == [(1, "one"), (2, "two")]


async def test_a_cause_that_never_comes_is_waited_for_two_seconds(world: World) -> None:
    """An order is worth a moment, not the event."""
    needs = needs_of(world)
    follower = started("late", source="/integr8s/monitor-pods", causation_id="never")
    waiting = asyncio.create_task(handle(follower, needs))

    await world.clock.advance(seconds(1.9))
    assert not waiting.done()
    await world.clock.advance(seconds(0.2))

    assert waiting.done()
    assert await history(world) == [(1, "late")]
    assert needs.history.waiting == {}


async def test_the_result_waits_for_its_outputs(world: World) -> None:
    """Also for those that another replica stores."""
    needs, other = needs_of(world), needs_of(world)
    waiting = asyncio.create_task(handle(result(2), needs))
    await world.clock.settle()
    await handle(output(0), needs)
    await handle(output(1), other)
    await world.clock.advance(seconds(0.5))

    assert waiting.done()
    assert [name for _, name in await history(world)] == ["output-0", "output-1", "result"]


async def test_a_batch_keeps_the_order(world: World) -> None:
    """What was stored before, or comes twice, takes no number."""
    needs = needs_of(world)
    await handle(started("a"), needs)
    await handle_batch([started(name) for name in "abbcd"], needs_of(world))

    assert await history(world) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


async def test_a_batch_goes_on_behind_what_another_replica_stored(world: World) -> None:
    """Its numbers are taken; ours follow without a gap."""
    mine, other = needs_of(world), needs_of(world)
    await handle_batch([started("a"), started("b")], mine)
    await handle(started("c"), other)
    await handle_batch([started("d"), started("e")], mine)

    names = [name for _, name in await history(world)]
    assert names == ["a", "b", "c", "d", "e"]
    assert [seq for seq, _ in await history(world)] == [1, 2, 3, 4, 5]


async def test_streams_are_nudged_after_the_store(world: World) -> None:
    """Each event once."""
    heard = Heard()
    needs = needs_of(world, heard)
    for name in "aab":
        await handle(started(name), needs)
    await world.clock.advance(seconds(0.01))

    assert [channel for channel, _ in heard.messages] == [f"sse:exec:{EXECUTION_ID}"] * 2


async def test_a_lost_nudge_is_no_lost_event(world: World) -> None:
    """Signals may be away for ever."""
    heard = Heard()
    heard.is_away = True
    needs = needs_of(world, heard)
    await handle(started("a"), needs)
    await world.clock.advance(seconds(0.01))
    heard.is_away = False
    await handle(started("b"), needs)
    await world.clock.advance(seconds(0.01))

    assert len(heard.messages) == 1
    assert len(await history(world)) == 2


async def test_a_slow_answer_costs_no_stream_its_word(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once more; that it may have come late is said to the operator."""
    heard = Heard()
    heard.is_slow = True
    await handle(started("a"), needs_of(world, heard))
    await world.clock.advance(seconds(0.01))

    assert len(heard.messages) == 1
    assert "streams may not be told" in caplog.text


async def test_an_outage_is_told_once_and_its_end_with_what_it_cost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with every message."""
    heard = Heard()
    needs = needs_of(world, heard)
    for number in range(5):
        heard.is_away = number < 4
        await handle(started(f"e{number}"), needs)
        await world.clock.advance(seconds(0.01))

    lines = [record.getMessage() for record in caplog.records]
    assert lines[-1] == "streams are told again; 4 messages were lost"
    assert len(lines) == 3, "the first message is told twice"


async def test_the_result_is_told_without_delay(world: World) -> None:
    """It ends the stream, and takes along what came before it."""
    heard = Heard()
    needs = needs_of(world, heard)
    await handle(started("a"), needs)
    await handle(result(0), needs)
    await world.clock.advance(seconds(0.005))

    assert len(heard.messages) == 2


async def test_the_result_is_told_at_once(world: World) -> None:
    """And takes along what was gathered before it."""
    heard = Heard()
    needs = needs_of(world, heard)
    await handle(output(0), needs)
    await handle(result(1), needs)
    await world.clock.settle()

    assert len(heard.messages) == 2


@pytest.mark.parametrize("times", [1, 2])
async def test_what_is_of_no_execution_is_stored_without_a_number(world: World, times: int) -> None:
    """And audited where it is about rights, once."""
    deed = AdminAction(
        actor_id="admin", action="user.disable", target_type="user", target_id="user-9"
    )

    for _ in range(times):
        await handle(builders.event(deed, subject="user-9"), needs_of(world))

    (stored,) = await world.documents("events").find()
    assert "seq" not in stored
    assert await world.documents("audit_log").count() == 1


def slow_events(world: World) -> Any:
    """Return events whose writes take their time, so that others gather."""
    return Counted(world.documents("events"), world.clock, pauses={"insert_all": seconds(0.01)})


def of_another(number: int, name: str) -> Event:
    """Return an event of another execution."""
    subject = builders.execution_id(number)
    data = ExecutionStarted(execution_id=subject, user_id=USER_ID, pod_name="p", started_at=START)
    return builders.event(data, event_id=f"{name}{number}", subject=subject)


async def _all(world: World, *handling: Any) -> list[Any]:
    tasks = asyncio.gather(*handling, return_exceptions=True)
    await world.clock.advance(seconds(0.2))
    return await tasks


async def test_events_of_many_executions_are_written_together(world: World) -> None:
    """One write for the first, one for all that gathered meanwhile; each history is its own."""
    events = slow_events(world)
    needs = needs_of(world)._replace(events=events)

    await _all(
        world, *(handle_batch([of_another(n, "a"), of_another(n, "b")], needs) for n in range(30))
    )

    assert events.calls["insert_all"] == 2
    found = await world.documents("events").find(sort=[("execution_id", 1), ("seq", 1)])
    assert [one["event_id"] for one in found] == [f"{name}{n}" for n in range(30) for name in "ab"]
    assert {one["seq"] for one in found} == {1, 2}


async def test_one_that_is_refused_holds_up_no_other_execution(world: World) -> None:
    """What stands behind it in a write of many is written again."""
    await handle(of_another(3, "a"), needs_of(world))
    events = slow_events(world)
    needs = needs_of(world)._replace(events=events)
    needs.history.last[builders.execution_id(3)] = 0  # it does not know that this is stored

    await _all(
        world, *(handle_batch([of_another(n, "a"), of_another(n, "b")], needs) for n in range(6))
    )

    found = await world.documents("events").find(sort=[("execution_id", 1), ("seq", 1)])
    assert [(one["event_id"], one["seq"]) for one in found] == [
        (f"{name}{n}", seq) for n in range(6) for seq, name in enumerate("ab", start=1)
    ]


async def test_a_write_that_fails_fails_for_one(world: World) -> None:
    """Who led it is told; the others write theirs themselves."""
    events = slow_events(world)
    events.failing["insert_all"] = 1
    needs = needs_of(world)._replace(events=events)

    ends = await _all(world, *(handle(of_another(n, "a"), needs) for n in range(5)))

    assert [type(end) for end in ends] == [TemporaryError] + [type(None)] * 4
    assert await world.documents("events").count() == 4
    assert needs.writes.waiting == []


async def test_who_stores_a_history_asks_nobody_whether_it_is_stored(world: World) -> None:
    """It hears of the cause from itself; only one that is late is looked for."""
    events = slow_events(world)
    needs = needs_of(world)._replace(events=events)
    await _all(world, handle(started("first"), needs))
    follower = started("late", source="/integr8s/monitor-pods", causation_id="early")

    await _all(world, handle(follower, needs), handle(started("early"), needs))

    assert [name for _, name in await history(world)] == ["first", "early", "late"]
    assert events.calls["get"] == 0
