"""The view of what KEDA did."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.events.topics import Topic
from shared.ports.event_log import NewRecord
from shared.ports.scaling import FunctionState, Workload
from shared.runtime.keda_scaling import KedaScaling
from tests import builders
from tests.builders import World

ASLEEP = Workload(
    slug="launch-pod",
    replicas=0,
    min_replicas=0,
    max_replicas=3,
    active=False,
    last_active_at=None,
    cooldown=timedelta(seconds=10),
    paused=False,
    ready=True,
    message="",
)
AWAKE = replace(ASLEEP, replicas=1, last_active_at=builders.START)


class Cluster:
    """Workloads that a test chooses, and how often they were asked for."""

    def __init__(self, *workloads: Workload) -> None:
        self.workloads = workloads
        self.looks = 0

    async def all(self) -> Sequence[Workload]:
        """Return them."""
        self.looks += 1
        return self.workloads


async def look(world: World, workload: Workload) -> FunctionState:
    """Return what the view makes of one function."""
    (state,) = await KedaScaling(Cluster(workload), world.log, world.clock).functions()
    return state


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (ASLEEP, "asleep, no trigger is active"),
        (AWAKE, "cools down for 10 s"),
        (replace(AWAKE, active=True), "a trigger is active"),
        (replace(AWAKE, paused=True), "paused by an operator"),
        (
            replace(AWAKE, ready=False, message="no brokers"),
            "KEDA cannot ask its triggers: no brokers",
        ),
    ],
)
async def test_it_says_why(world: World, workload: Workload, reason: str) -> None:
    """In a sentence that an operator understands."""
    assert (await look(world, workload)).reason == reason


async def test_a_cooling_function_says_when_it_sleeps(world: World) -> None:
    """Counted from the last look at which a trigger was active; not while one is."""
    assert (await look(world, AWAKE)).sleeps_at == builders.START + timedelta(seconds=10)
    assert (await look(world, replace(AWAKE, active=True))).sleeps_at is None
    assert (await look(world, replace(AWAKE, min_replicas=1))).sleeps_at is None


async def test_lag_counts_from_the_oldest_record_until_something_is_committed(
    world: World,
) -> None:
    """As KEDA and our consumers do."""
    record = NewRecord(Topic.EXECUTION_TASKS, b"key", (), b"{}")
    await world.log.append([record, record])

    state = await look(world, AWAKE)

    assert state.lag == {"execution_tasks": 2, "saga_commands": 0}
    assert {type(topic) for topic in state.lag} == {str}  # an enum would be no key of JSON


async def test_one_look_serves_everybody_for_a_second(world: World) -> None:
    """Many administrators who watch must not load the API."""
    cluster = Cluster(AWAKE)
    scaling = KedaScaling(cluster, world.log, world.clock)

    await scaling.functions()
    await scaling.functions()
    assert cluster.looks == 1
    await world.clock.advance(timedelta(seconds=1))
    await scaling.functions()

    assert cluster.looks == 2
