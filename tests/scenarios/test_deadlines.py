"""The guardian: what does not happen in time is noticed, ended, and undone."""

from datetime import timedelta

from shared.adapters.scripted.cluster import Play
from shared.runtime.invariants import check_all
from tests.scenarios.system import System

SECOND = timedelta(seconds=1)


async def alerts(system: System) -> list[str]:
    """Return the alerts that were raised."""
    found = await system.collections["events"].find({"event_type": "system.alert"})
    return [event["data"]["alert"] for event in found]


def without(system: System, *missing: str) -> None:
    """Start every function but some."""
    system.start(*(slug for slug in system.slugs if slug not in missing))


async def test_nobody_admits_it(asleep: System) -> None:
    """After a minute an alert is raised; at the queue limit it ends as expired."""
    without(asleep, "coordinate")
    execution_id = await asleep.accepted()

    await asleep.until_status(execution_id, "error", within=3600 + 75)

    assert "admission_slow" in await alerts(asleep)
    assert (await asleep.execution(execution_id))["error_code"] == "queue_expired"


async def test_it_is_launched_again_while_there_is_no_pod(asleep: System) -> None:
    """A launch that never happened is ordered again after a minute, and then goes well."""
    without(asleep, "launch-pod")
    execution_id = await asleep.accepted()
    await asleep.clock_at(65)

    asleep.start("launch-pod")
    await asleep.until_quiet()

    assert await asleep.status(execution_id) == "completed"
    assert asleep.deeds("create") == 1
    assert check_all(await asleep.evidence()) == []


async def test_three_launches_are_enough(asleep: System) -> None:
    """Where no pod ever comes the execution ends as not launched, and the slot is free."""
    without(asleep, "launch-pod")
    execution_id = await asleep.accepted()

    await asleep.until_status(execution_id, "error", within=4 * 60)

    assert (await asleep.execution(execution_id))["error_code"] == "launch_deadline"
    asleep.start("launch-pod")
    await asleep.until_quiet(within=600)
    assert asleep.deeds("create") == 0
    assert check_all(await asleep.evidence()) == []


async def test_a_script_that_does_not_start(system: System, plays: dict[str, Play]) -> None:
    """Five minutes after its pod it is ended as not started, and the pod is removed."""
    plays["it"] = Play(starting=timedelta(hours=1))
    execution_id = await system.accepted("it")

    await system.until_quiet(within=420)

    found = await system.execution(execution_id)
    assert found["status"] in {"error", "timeout"}
    assert found["error_code"] in {"start_deadline", "deadline"}
    assert check_all(await system.evidence()) == []


async def test_an_end_that_nobody_reports(asleep: System) -> None:
    """Fifteen seconds after its time limit the saga says the end, and frees the slot."""
    without(asleep, "monitor-pods")
    execution_id = await asleep.accepted("long", timeout=10)

    await asleep.until_status(execution_id, "timeout", "error", within=300 + 60)

    pool = await asleep.collections["pools"].get("default")
    assert pool is not None
    await asleep.clock_at(asleep.clock.monotonic() + 5)
    assert (await asleep.collections["pools"].get("default"))["holders"] == {}  # type: ignore[index]


async def test_a_result_that_is_not_stored(asleep: System) -> None:
    """After half a minute somebody is told; the result comes when its function is back."""
    without(asleep, "persist-result")
    execution_id = await asleep.accepted()
    await asleep.clock_at(40)

    assert "result_late" in await alerts(asleep)
    asleep.start("persist-result")
    await asleep.until_quiet()
    assert await asleep.status(execution_id) == "completed"


async def test_a_pod_that_cannot_be_removed(asleep: System) -> None:
    """The order is repeated, and in the end somebody is told."""
    asleep.start()
    execution_id = await asleep.accepted()
    await asleep.until_status(execution_id, "running")
    asleep.kill("launch-pod")

    await asleep.clock_at(200)

    assert "pod_left_behind" in await alerts(asleep)
    asleep.start("launch-pod")
    await asleep.until_quiet()
    assert asleep.deeds("gone") == 1


async def test_deadlines_survive_a_restart(asleep: System, plays: dict[str, Play]) -> None:
    """A deadline that was set before its function died is kept after it is back."""
    plays["it"] = Play(starting=timedelta(hours=1))
    asleep.start()
    execution_id = await asleep.accepted("it")
    await asleep.clock_at(5)
    asleep.kill("saga-step")
    await asleep.clock_at(200)
    asleep.start("saga-step")

    await asleep.until_quiet(within=300)

    assert await asleep.status(execution_id) in {"error", "timeout"}


async def test_no_timer_is_left_behind(system: System) -> None:
    """When everything is over nothing is going to ring."""
    for _ in range(3):
        await system.accepted()
    await system.until_quiet()

    timers = system.collections["timers"]
    await system.clock_at(system.clock.monotonic() + 400)
    assert {timer["_id"] for timer in await timers.find()} <= {"coordinate:expire:default"}

    # The queue has one alarm for all that wait; it rings once more, for nobody.
    await system.clock_at(system.clock.monotonic() + 3700)
    assert await timers.count() == 0
