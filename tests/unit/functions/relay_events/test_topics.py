"""Topics of many executions at once: what comes too early keeps nobody out."""

import asyncio
from typing import Any

from functions.relay_events.handler import History, Needs, Nudges, Writes
from shared.events.event import Event
from shared.events.executions import ExecutionOutput, ExecutionStarted
from shared.runtime.functions import load
from shared.runtime.outbox import record_of
from shared.runtime.pump import Pump
from tests import builders
from tests.builders import START, World, seconds

EXECUTIONS = [builders.execution_id(number) for number in range(200)]


class Nobody:
    """Signals that nobody hears."""

    async def publish_all(self, messages: object) -> None:
        """Take them."""


def started(execution_id: str) -> Event:
    """Return what stands first, in one topic."""
    data = ExecutionStarted(execution_id=execution_id, user_id="u", pod_name="p", started_at=START)
    return builders.event(data, subject=execution_id)


def output(execution_id: str) -> Event:
    """Return what follows from it, in the other."""
    data = ExecutionOutput(
        execution_id=execution_id,
        user_id="u",
        stream="stdout",
        offset=0,
        data="x",
        encoding="utf-8",
    )
    cause = started(execution_id).id
    source = "/integr8s/monitor-pods"
    return builders.event(data, subject=execution_id, source=source, causation_id=cause)


async def test_many_that_wait_leave_room_for_what_they_wait_for(world: World) -> None:
    """One topic is ahead of the other for every execution: each is stored in order, and soon."""
    nobody: Any = Nobody()
    needs = Needs(
        events=world.documents("events"),
        audit_log=world.documents("audit_log"),
        signals=nobody,
        clock=world.clock,
        history=History(),
        writes=Writes(),
        nudges=Nudges(),
    )
    pump = Pump(load("relay-events"), needs, world.log, world.clock)
    running = asyncio.create_task(pump.run())
    await world.clock.settle()

    await world.log.append([record_of(output(one)) for one in EXECUTIONS])
    await world.clock.advance(seconds(0.5))
    await world.log.append([record_of(started(one)) for one in EXECUTIONS])
    await world.clock.advance(seconds(1))

    stored = await world.documents("events").find(sort=[("execution_id", 1), ("seq", 1)])
    in_order = [ExecutionStarted.TYPE, ExecutionOutput.TYPE]
    assert [one["event_type"] for one in stored] == in_order * len(EXECUTIONS)

    pump.stop()
    await world.clock.advance(seconds(10))
    await running
