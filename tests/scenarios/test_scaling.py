"""From zero and back: functions sleep until there is something for them."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from itertools import pairwise

import pytest

from shared.adapters.scripted.cluster import Play
from shared.runtime.autoscaler import Autoscaler
from shared.runtime.invariants import check_all
from shared.runtime.scaling import load
from tests.scenarios.system import FUNCTIONS, KEDA, System


@pytest.fixture
async def scaled(asleep: System) -> AsyncIterator[tuple[System, Autoscaler]]:
    """Return a system whose functions the autoscaler starts and stops."""
    autoscaler = Autoscaler(load(KEDA), asleep.gateway.ports)
    asleep.log.listen(autoscaler.poke)
    autoscaler.start()
    yield asleep, autoscaler
    await autoscaler.stop()


async def replicas(autoscaler: Autoscaler) -> Mapping[str, int]:
    """Return the replicas of every function."""
    return {state.slug: state.replicas for state in await autoscaler.functions()}


def wakings(autoscaler: Autoscaler, system: System, slug: str) -> int:
    """Return how often a function went from zero to one or more."""
    since = system.clock.now() - timedelta(days=1)
    numbers = [0, *(point.replicas for point in autoscaler.history(slug, since=since))]
    return sum(before == 0 and after > 0 for before, after in pairwise(numbers))


async def test_idle_means_zero(scaled: tuple[System, Autoscaler]) -> None:
    """With nothing to do no function has a replica, also after an hour."""
    system, autoscaler = scaled

    await system.clock_at(3600)

    assert set((await replicas(autoscaler)).values()) == {0}


async def test_one_execution_wakes_each_function_once(scaled: tuple[System, Autoscaler]) -> None:
    """From all asleep to the result, and back to zero; nobody is woken twice for it."""
    system, autoscaler = scaled
    await system.clock_at(30)
    execution_id = await system.accepted()

    await system.until_status(execution_id, "completed", within=10)
    await system.until_quiet()
    await system.clock_at(system.clock.monotonic() + 120)

    assert set((await replicas(autoscaler)).values()) == {0}
    needed = set(FUNCTIONS) - {"fire-timers", "retry-dead-letters"}
    assert {slug: wakings(autoscaler, system, slug) for slug in needed} == dict.fromkeys(needed, 1)
    assert check_all(await system.evidence()) == []


async def test_a_deadline_wakes_whoever_keeps_it(
    scaled: tuple[System, Autoscaler], plays: dict[str, Play]
) -> None:
    """A deadline is kept although the saga and the timers have gone to sleep meanwhile."""
    system, autoscaler = scaled
    plays["it"] = Play(starting=timedelta(hours=1))
    execution_id = await system.accepted("it")
    await system.clock_at(250)
    asleep = {slug for slug, count in (await replicas(autoscaler)).items() if count == 0}

    await system.until_status(execution_id, "error", "timeout", within=120)

    assert {"saga-step", "fire-timers", "coordinate"} <= asleep
    await system.until_quiet()
    assert check_all(await system.evidence()) == []


async def test_what_a_crash_left_wakes_the_sweep(scaled: tuple[System, Autoscaler]) -> None:
    """An event that was stored and never said wakes the one that says it."""
    system, _ = scaled
    await system.clock_at(60)
    system.away |= {"log"}
    execution_id = await system.accepted()
    system.gateway.outbox.abandon()
    await system.clock_at(65)
    system.away.clear()

    await system.until_status(execution_id, "completed", within=120)

    assert check_all(await system.evidence(quiet=False)) == []
