"""A cancel, in every state."""

from datetime import timedelta

import pytest

from shared.adapters.scripted.cluster import Play
from shared.runtime.invariants import check_all
from tests.scenarios.system import System

SECOND = timedelta(seconds=1)


async def honoured(system: System, execution_id: str) -> None:
    """Check that an execution ended cancelled and left nothing."""
    await system.until_quiet()
    found = await system.execution(execution_id)
    assert found["status"] == "cancelled"
    assert found["error_message"] == "Cancelled: changed my mind"
    assert "result_stored" in await system.history(execution_id)
    assert check_all(await system.evidence()) == []


async def cancel(system: System, execution_id: str) -> None:
    """Ask for the end, and be promised it."""
    call = await system.cancel(execution_id, reason="changed my mind")
    assert call.acknowledged


async def test_while_it_waits(system: System) -> None:
    """It never gets a pod, and is over within a second."""
    for _ in range(2):
        await system.accepted("long")
    waiting = await system.accepted("long")
    await system.clock_at(1)

    await cancel(system, waiting)
    await system.until_status(waiting, "cancelled", within=1)

    await honoured(system, waiting)
    assert system.deeds("create") == 2


async def test_before_anybody_looked_at_it(asleep: System) -> None:
    """A cancel that overtakes its own request still holds."""
    execution_id = await asleep.accepted("long")
    await cancel(asleep, execution_id)

    asleep.start()

    await honoured(asleep, execution_id)
    assert asleep.deeds("create") == 0


@pytest.mark.parametrize("missing", ["launch-pod", "monitor-pods"])
async def test_between_slot_and_script(asleep: System, missing: str) -> None:
    """Scheduled and not launched, or launched and not noticed: it ends all the same."""
    asleep.start(*(slug for slug in asleep.slugs if slug != missing))
    execution_id = await asleep.accepted("long")
    await asleep.clock_at(1)
    await cancel(asleep, execution_id)
    await asleep.clock_at(2)

    asleep.start(missing)

    await honoured(asleep, execution_id)


async def test_while_the_pod_is_made(system: System, plays: dict[str, Play]) -> None:
    """The pod that appears afterwards is removed again."""
    plays["it"] = Play(creating=4 * SECOND, running=20 * SECOND)
    execution_id = await system.accepted("it")
    await system.clock_at(1)

    await cancel(system, execution_id)

    await honoured(system, execution_id)


async def test_while_the_script_starts(system: System, plays: dict[str, Play]) -> None:
    """It ends without ever having started."""
    plays["it"] = Play(starting=20 * SECOND)
    execution_id = await system.accepted("it")
    await system.clock_at(1)

    await cancel(system, execution_id)

    await honoured(system, execution_id)


@pytest.mark.parametrize("stubborn", [False, True], ids=["polite", "stubborn"])
async def test_while_it_runs(system: System, plays: dict[str, Play], *, stubborn: bool) -> None:
    """It is over within ten seconds, and what it had printed is kept."""
    plays["it"] = Play(running=25 * SECOND, prints=(("stdout", b"x"),) * 24, ignores_term=stubborn)
    execution_id = await system.accepted("it")
    await system.clock_at(5.5)

    await cancel(system, execution_id)
    await system.until_status(execution_id, "cancelled", within=10)

    await honoured(system, execution_id)
    assert (await system.execution(execution_id))["stdout"].startswith(b"xxx")


async def test_while_it_ends(asleep: System) -> None:
    """The script has ended by itself, its end is not stored yet: the cancel still holds."""
    asleep.start(*(slug for slug in asleep.slugs if slug != "persist-result"))
    execution_id = await asleep.accepted()
    await asleep.clock_at(3)
    await cancel(asleep, execution_id)

    asleep.start("persist-result")

    await honoured(asleep, execution_id)


async def test_after_its_end(system: System) -> None:
    """Nothing is promised, and nothing changes."""
    execution_id = await system.accepted()
    await system.until_quiet()

    call = await system.cancel(execution_id)
    await system.clock_at(60)

    assert not call.acknowledged
    assert await system.status(execution_id) == "completed"
    assert check_all(await system.evidence()) == []


async def test_twice(system: System) -> None:
    """The second one promises nothing new, and there is one end."""
    execution_id = await system.accepted("long")
    await system.clock_at(2)
    await cancel(system, execution_id)

    again = await system.cancel(execution_id, reason="again")

    assert not again.acknowledged
    await honoured(system, execution_id)


async def test_nobody_reports_the_end(asleep: System) -> None:
    """Without a word from the monitor the saga says the end itself, after fifteen seconds."""
    asleep.start(*(slug for slug in asleep.slugs if slug != "monitor-pods"))
    execution_id = await asleep.accepted("long")
    await asleep.clock_at(1)
    await cancel(asleep, execution_id)

    await asleep.until_status(execution_id, "cancelled", within=20)

    await honoured(asleep, execution_id)
