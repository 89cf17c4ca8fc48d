"""Executions that go well, seen from outside."""

from itertools import pairwise

from shared.adapters.scripted.cluster import Play
from shared.runtime.invariants import check_all
from tests.scenarios.system import System

ORDER = [
    "execution.requested",
    "execution.queued",
    "pod.created",
    "execution.started",
    "execution.output",
    "execution.completed",
    "result_stored",
]


async def test_the_story_of_one_execution(system: System) -> None:
    """Every event comes, each after those that it follows from, and nothing is left behind."""
    execution_id = await system.accepted()

    await system.until_quiet()

    history = await system.history(execution_id)
    places = [history.index(event_type) for event_type in ORDER]
    assert places == sorted(places)
    assert {"pod.scheduled", "pod.running", "pod.terminated", "pod.deleted"} <= set(history)
    assert history[-1] == "saga.completed"
    assert check_all(await system.evidence()) == []


async def test_a_warm_execution_is_quick(system: System) -> None:
    """With everything awake, what is not the script's own time is well below a second."""
    execution_id = await system.accepted()

    await system.until_status(execution_id, "completed")

    execution = await system.execution(execution_id)
    took = (execution["updated_at"] - execution["accepted_at"]).total_seconds()
    assert took < 0.25 + 0.5


async def test_the_result_is_what_the_script_printed(
    system: System, plays: dict[str, Play]
) -> None:
    """Bytes of both streams, exact also where they are no text, with the exit code."""
    plays["binary"] = Play(prints=(("stdout", b"\xff\x00"), ("stderr", "é".encode())), exit_code=3)
    execution_id = await system.accepted("binary")

    await system.until_quiet()

    execution = await system.execution(execution_id)
    assert (execution["stdout"], execution["stderr"]) == (b"\xff\x00", "é".encode())
    assert (execution["status"], execution["exit_code"]) == ("completed", 3)


async def test_output_is_seen_while_the_script_runs(system: System) -> None:
    """The first chunk is in the history long before the end."""
    execution_id = await system.accepted("long")

    await system.clock_at(8)

    history = await system.history(execution_id)
    assert "execution.output" in history
    assert "execution.completed" not in history


async def test_the_numbers_have_no_gap(system: System) -> None:
    """Three executions side by side have a history of 1 to n each."""
    ids = [await system.accepted() for _ in range(3)]

    await system.until_quiet()

    for execution_id in ids:
        events = await system.collections["events"].find(
            {"execution_id": execution_id}, sort=[("seq", 1)]
        )
        numbers = [event["seq"] for event in events]
        assert numbers[0] == 1
        assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


async def test_events_are_not_held_back_in_vain(system: System) -> None:
    """On a good day no event waits for one that stands behind it: all are stored within 200 ms."""
    execution_id = await system.accepted("long")

    await system.until_quiet()

    events = await system.collections["events"].find({"execution_id": execution_id})
    waits = {e["event_type"]: (e["stored_at"] - e["timestamp"]).total_seconds() for e in events}
    assert max(waits.values()) < 0.2, waits


async def test_a_hundred_runs_leave_the_pool_empty(system: System, plays: dict[str, Play]) -> None:
    """A hundred that go well and ten that fail: every slot is back, every pod gone."""
    plays["bad"] = Play(exit_code=1)
    for script in ["good"] * 100 + ["bad"] * 10:
        execution_id = await system.accepted(script)
        await system.until_status(execution_id, "completed")

    await system.until_quiet()

    pool = await system.collections["pools"].get("default")
    assert pool is not None
    assert pool["holders"] == {}
    assert await system.cluster.list() == []
    assert check_all(await system.evidence()) == []
