"""The first terminal fact is the result."""

from typing import Any

import pytest

from functions.persist_result.handler import Needs, Running, handle
from shared.events.event import Payload
from shared.events.executions import (
    ExecutionCompleted,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimeout,
)
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID, Counted, World

WHO: dict[str, Any] = {"execution_id": EXECUTION_ID, "user_id": USER_ID}
COMPLETED = ExecutionCompleted(**WHO, exit_code=0, stdout="out", output_events=3)
TIMEOUT = ExecutionTimeout(**WHO, exit_code=-1, timeout_seconds=30)
STARTED = ExecutionStarted(**WHO, pod_name="p", started_at=START)


async def tell(world: World, *facts: Payload, executions: Any = None) -> None:
    """Let facts arrive."""
    collection = executions or world.documents("executions")
    needs = Needs(executions=collection, clock=world.clock, running=Running())
    for fact in facts:
        await handle(builders.event(fact), needs)


async def document(world: World) -> dict[str, Any]:
    """Return the execution."""
    found = await world.documents("executions").get(EXECUTION_ID)
    assert found is not None
    return found


@pytest.mark.parametrize("status", ["scheduled", "launching"])
async def test_a_start_is_noted(world: World, status: str) -> None:
    """With its time."""
    await world.add_execution(status=status)
    await tell(world, STARTED)

    found = await document(world)
    assert (found["status"], found["started_at"]) == ("running", START)


async def test_a_start_told_late_changes_no_end(world: World) -> None:
    """A terminal state is never left."""
    await world.add_execution(status="running")
    await tell(world, COMPLETED, STARTED)

    assert (await document(world))["status"] == "completed"


async def test_state_and_event_are_one_write(world: World) -> None:
    """The event carries the whole result, and how many outputs belong before it."""
    await world.add_execution(status="running")
    await tell(world, COMPLETED)

    (said,) = await world.emitted("executions")
    data: Any = said.data
    assert said.type == "result_stored"
    assert (data.status, data.size_bytes, data.output_events) == ("completed", 3, 3)
    assert data.result["stdout"] == "out"


async def test_the_first_end_wins(world: World) -> None:
    """A second, different one changes nothing and is not announced."""
    await world.add_execution(status="running")
    await tell(world, COMPLETED, TIMEOUT, COMPLETED)

    assert (await document(world))["status"] == "completed"
    assert len(await world.emitted("executions")) == 1


class _CancelledMeanwhile:
    """Executions of which a cancel is recorded between our reading and our writing."""

    def __init__(self, world: World) -> None:
        self.inner = world.documents("executions")
        self.cancels = 1

    async def get(self, key: str) -> Any:
        """Read, then let the cancel in."""
        found = await self.inner.get(key)
        if self.cancels:
            self.cancels -= 1
            await self.inner.change(key, set={"cancel_requested_at": START})
        return found

    async def change(self, key: str, **change: Any) -> Any:
        """Change."""
        return await self.inner.change(key, **change)


async def test_a_cancel_between_reading_and_writing_is_honoured(world: World) -> None:
    """The version is part of the condition."""
    await world.add_execution(status="running")
    await tell(world, COMPLETED, executions=_CancelledMeanwhile(world))

    assert (await document(world))["status"] == "cancelled"
    assert len(await world.emitted("executions")) == 1


async def test_the_end_of_what_was_seen_to_start_is_not_read_first(world: World) -> None:
    """What was written with the start is as good, while nobody else has written since."""
    await world.add_execution(status="launching")
    executions: Any = Counted(world.documents("executions"), world.clock)
    await tell(world, STARTED, COMPLETED, executions=executions)

    assert (await document(world))["status"] == "completed"
    assert executions.calls["get"] == 0


async def test_a_cancel_after_the_start_is_honoured(world: World) -> None:
    """What was remembered is older than it."""
    await world.add_execution(status="launching")
    executions = world.documents("executions")
    needs = Needs(executions=executions, clock=world.clock, running=Running())
    await handle(builders.event(STARTED), needs)
    await executions.change(EXECUTION_ID, set={"cancel_requested_at": START})
    await handle(builders.event(COMPLETED), needs)

    assert (await document(world))["status"] == "cancelled"
    assert len(await world.emitted("executions")) == 1


async def test_what_is_remembered_is_small_and_bounded() -> None:
    """Neither scripts and files stay in memory, nor runs whose end somebody else stored."""
    running = Running()
    for number in range(1_000):
        running.keep({**builders.execution(), "execution_id": f"e{number}"})

    assert running.take("e0") is None
    last = running.take("e999")
    assert last is not None
    assert "script" not in last
    assert len(running.documents) < 1_000


async def test_a_refused_submission_is_no_result(world: World) -> None:
    """There is no execution that it could end."""
    await world.add_execution()
    await tell(world, ExecutionRejected(code="malformed", message="no"))

    assert (await document(world))["status"] == "queued"


async def test_an_end_of_nothing_is_nothing(world: World) -> None:
    """Its execution was deleted."""
    await tell(world, COMPLETED, STARTED)

    assert await world.documents("executions").count() == 0
