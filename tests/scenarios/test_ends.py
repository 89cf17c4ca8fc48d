"""Every way in which an execution can end."""

from datetime import timedelta

import pytest

from shared.adapters.scripted.cluster import Play
from shared.ports.cluster import Cause
from shared.runtime.invariants import check_all
from tests.scenarios.system import System

MINUTES = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("play", "status", "error_type", "error_code"),
    [
        pytest.param(Play(), "completed", None, None, id="success"),
        pytest.param(Play(exit_code=137), "completed", None, None, id="any exit code"),
        pytest.param(
            Play(running=5 * MINUTES), "timeout", "timeout", "deadline", id="its time limit"
        ),
        *(
            pytest.param(
                Play(cause=cause, exit_code=None), "failed", "resource_limit", cause.value, id=cause
            )
            for cause in (Cause.OUT_OF_MEMORY, Cause.PROCESSES, Cause.DISK, Cause.EVICTED)
        ),
        pytest.param(
            Play(prints=(("stdout", b"x" * 11 * 1024 * 1024),)),
            "failed",
            "resource_limit",
            "output_flood",
            id="output_flood",
        ),
        pytest.param(
            Play(cause=Cause.SIGNAL, signal=11, exit_code=None),
            "failed",
            "script_error",
            "signal",
            id="signal",
        ),
        *(
            pytest.param(
                Play(cause=cause, exit_code=None), "failed", "system_error", cause.value, id=cause
            )
            for cause in (Cause.NODE_LOST, Cause.POD_LOST, Cause.UNKNOWN)
        ),
        *(
            pytest.param(
                Play(cause=cause, starts=False), "error", "system_error", cause.value, id=cause
            )
            for cause in (Cause.IMAGE_PULL, Cause.CONTAINER_START)
        ),
        pytest.param(
            Play(refused=True), "error", "system_error", "cannot_launch", id="cannot_launch"
        ),
    ],
)
async def test_an_end_is_named(
    system: System,
    plays: dict[str, Play],
    play: Play,
    status: str,
    error_type: str | None,
    error_code: str | None,
) -> None:
    """Status, type, code and sentence say what happened, and everything is cleaned up."""
    plays["it"] = play
    execution_id = await system.accepted("it")

    await system.until_quiet()

    found = await system.execution(execution_id)
    assert (found["status"], found["error_type"], found["error_code"]) == (
        status,
        error_type,
        error_code,
    )
    assert bool(found["error_message"]) is (status != "completed")
    assert check_all(await system.evidence()) == []


@pytest.mark.parametrize(
    "cause", [Cause.DEADLINE, Cause.OUT_OF_MEMORY, Cause.NODE_LOST, Cause.SIGNAL]
)
async def test_output_is_kept_whatever_the_end(
    system: System, plays: dict[str, Play], cause: Cause
) -> None:
    """What was printed before a violent end is part of the result."""
    by_deadline = cause is Cause.DEADLINE
    plays["it"] = Play(
        running=5 * MINUTES if by_deadline else timedelta(seconds=1),
        prints=(("stdout", b"first words\n"),) * (20 if by_deadline else 1),
        cause=Cause.EXIT if by_deadline else cause,
    )
    execution_id = await system.accepted("it")

    await system.until_quiet()

    assert (await system.execution(execution_id))["stdout"].startswith(b"first words\n")


async def test_what_is_over_the_limit_is_cut_and_marked(
    system: System, plays: dict[str, Play]
) -> None:
    """The first 512 KiB are kept, the flag is set, and the run is a success all the same."""
    plays["it"] = Play(prints=(("stdout", b"x" * 600_000),))
    execution_id = await system.accepted("it")

    await system.until_quiet()

    found = await system.execution(execution_id)
    assert (found["status"], found["stdout_truncated"]) == ("completed", True)
    assert found["stdout"] == b"x" * 512 * 1024


async def test_somebody_removes_the_pod(system: System) -> None:
    """It ends as lost, and is not run again."""
    execution_id = await system.accepted("long")
    await system.until_status(execution_id, "running")
    await system.cluster.vanish(f"exec-{execution_id}")

    await system.until_quiet()

    found = await system.execution(execution_id)
    assert (found["status"], found["error_code"]) == ("failed", "pod_lost")
    assert system.deeds("create") == 1


async def test_the_watch_is_cut_in_the_middle(system: System) -> None:
    """The monitor looks again, misses nothing, and says nothing under a new id."""
    execution_id = await system.accepted("long")
    await system.until_status(execution_id, "running")
    system.cluster.end_watches()

    await system.until_quiet()

    history = await system.history(execution_id)
    assert history.count("execution.output") == 3
    assert history.count("execution.completed") == 1


async def test_a_silent_watch_costs_no_result(system: System) -> None:
    """A watch that never says anything again is noticed; the result is the script's own."""
    execution_id = await system.accepted("long")
    await system.until_status(execution_id, "running")
    system.cluster.silence_watches()

    await system.until_quiet()

    assert await system.status(execution_id) == "completed"
