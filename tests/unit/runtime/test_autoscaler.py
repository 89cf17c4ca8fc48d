"""Replicas come and go as the manifests say, and a stop loses nothing."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from functions.launch_pod.rules import pod_spec
from shared.adapters.scripted.cluster import Play, ScriptedCluster, by_script
from shared.domain.runtimes import Offer
from shared.events.executions import ExecutionRequested, ExecutionScheduled
from shared.events.origins import order_of
from shared.events.topics import Topic
from shared.ports.signals import Signals
from shared.runtime.autoscaler import Autoscaler
from shared.runtime.outbox import Outbox, record_of
from shared.runtime.ports import Ports
from shared.runtime.replica import Replica
from shared.runtime.scaling import KafkaTrigger, ScaledObject, WorkloadTrigger
from tests import builders
from tests.builders import World, seconds


class Deaf:
    """Signals that nobody hears."""

    async def publish_all(self, messages: object) -> None:
        """Do nothing."""


def ports_of(world: World, cluster: Any = None) -> Ports:
    """Return the ports of a process."""
    signals: Any = Deaf()
    heard: Signals = signals
    return Ports(
        log=world.log,
        outbox=Outbox(world.log, world.clock, world.documents),
        signals=heard,
        cluster=cluster or ScriptedCluster(world.clock),
        clock=world.clock,
        ids=world.ids,
        offer=Offer(),
        settings=world.settings,
    )


def scaled(slug: str, *triggers: Any, maximum: int = 6) -> ScaledObject:
    """Return how a function is scaled."""
    return ScaledObject(
        name=slug,
        target=slug,
        triggers=triggers,
        polling_interval=seconds(1),
        cooldown_period=seconds(5),
        max_replicas=maximum,
    )


def lag_of(slug: str) -> KafkaTrigger:
    """Return the trigger of a function on the events of executions."""
    return KafkaTrigger(
        name="lag",
        topic=Topic.EXECUTION_EVENTS,
        group=slug,
        threshold=5,
        offset_reset_policy="earliest",
    )


COORDINATE = {"coordinate": scaled("coordinate", lag_of("coordinate"))}


async def request(world: World, number: int = 1) -> None:
    """Let an execution be requested."""
    one = await world.add_execution(execution_id=builders.execution_id(number))
    data = ExecutionRequested(**order_of(one))
    await world.log.append([record_of(builders.event(data, subject=one["execution_id"]))])


async def replicas(autoscaler: Autoscaler, slug: str = "coordinate") -> int:
    """Return how many replicas a function has."""
    (state,) = [one for one in await autoscaler.functions() if one.slug == slug]
    return state.replicas


async def test_everything_begins_asleep(world: World) -> None:
    """And stays so while there is nothing to do."""
    autoscaler = Autoscaler(COORDINATE, ports_of(world))
    autoscaler.start()
    await world.clock.advance(seconds(30))

    assert await replicas(autoscaler) == 0
    await autoscaler.kill()


async def test_a_record_wakes_who_waits_for_it(world: World) -> None:
    """At once, without waiting for the next look; it works, cools down and sleeps."""
    autoscaler = Autoscaler(COORDINATE, ports_of(world))
    world.log.listen(autoscaler.poke)
    autoscaler.start()
    await world.clock.advance(seconds(0.5))

    await request(world)
    await world.clock.settle()
    assert await replicas(autoscaler) == 1
    await world.clock.advance(seconds(30))

    assert await replicas(autoscaler) == 0
    execution = await world.documents("executions").get(builders.execution_id(1))
    assert execution is not None
    assert execution["status"] == "scheduled"
    history = autoscaler.history("coordinate", since=builders.START)
    assert [point.replicas for point in history] == [1, 0]
    await autoscaler.kill()


async def test_records_for_others_wake_nobody(world: World) -> None:
    """Only the topics of its triggers count."""
    autoscaler = Autoscaler(COORDINATE, ports_of(world))
    autoscaler.poke({Topic.TIMERS})
    await world.clock.settle()

    assert await replicas(autoscaler) == 0
    await autoscaler.kill()


async def test_a_stop_puts_everything_to_zero(world: World) -> None:
    """And nothing is woken any more."""
    autoscaler = Autoscaler(COORDINATE, ports_of(world))
    world.log.listen(autoscaler.poke)
    autoscaler.start()
    await request(world)
    await world.clock.settle()
    stopping = asyncio.create_task(autoscaler.stop())
    await world.clock.advance(seconds(5))
    assert stopping.done()

    await request(world, 2)
    await world.clock.advance(seconds(5))

    assert await replicas(autoscaler) == 0


async def _launching(world: World, creating: float) -> Ports:
    """Return ports with a cluster that is slow, and one execution to launch."""
    cluster = ScriptedCluster(world.clock, by_script({}, Play(creating=seconds(creating))))
    ports = ports_of(world, cluster)
    await world.add_execution(status="scheduled", scheduled_at=builders.START)
    execution = builders.execution(scheduled_at=builders.START)
    data = ExecutionScheduled(**order_of(execution), pool="p", scheduled_at=builders.START)
    await world.log.append([record_of(builders.event(data))])
    return ports


async def test_a_stop_in_the_middle_of_a_drain_lets_it_finish(world: World) -> None:
    """What was begun is finished and committed, whoever gave up waiting for it."""
    ports = await _launching(world, creating=20)
    replica = Replica("launch-pod", ports)
    await world.clock.advance(seconds(1))
    autoscaler = Autoscaler({"launch-pod": scaled("launch-pod")}, ports)
    autoscaler._functions["launch-pod"].replicas.append(replica)
    autoscaler.start()
    await world.clock.advance(seconds(2))

    stopping = asyncio.create_task(autoscaler.stop())
    await world.clock.advance(seconds(5))
    assert not stopping.done()
    await world.clock.advance(seconds(20))

    assert stopping.done()
    execution = await world.documents("executions").get(builders.EXECUTION_ID)
    assert execution is not None
    assert execution["pod_name"]
    await ports.cluster.close()  # type: ignore[attr-defined]


async def test_a_slow_drain_holds_up_no_other_function(world: World) -> None:
    """Each is looked at by itself."""
    ports = await _launching(world, creating=20)
    autoscaler = Autoscaler({"launch-pod": scaled("launch-pod"), **COORDINATE}, ports)
    replica = Replica("launch-pod", ports)
    await world.clock.advance(seconds(1))
    autoscaler._functions["launch-pod"].replicas.append(replica)
    autoscaler.start()
    await world.clock.advance(seconds(2))

    await request(world, 7)
    await world.clock.advance(seconds(2))

    assert await replicas(autoscaler) == 1
    await autoscaler.kill()
    await ports.cluster.close()  # type: ignore[attr-defined]


async def test_an_ended_pod_keeps_its_watcher_awake(world: World) -> None:
    """Its end may not be told yet, and nobody else would wake whoever tells it."""
    cluster = ScriptedCluster(world.clock)
    ports = ports_of(world, cluster)
    await cluster.create(pod_spec(builders.execution()))
    await world.clock.advance(seconds(5))
    pods = WorkloadTrigger(name="pods", labels={}, threshold=5)
    autoscaler = Autoscaler({"monitor-pods": scaled("monitor-pods", pods)}, ports)

    autoscaler.start()
    await world.clock.settle()

    assert await replicas(autoscaler, "monitor-pods") == 1
    await autoscaler.kill()
    await cluster.close()


async def test_one_function_that_cannot_be_started_stops_no_other(world: World) -> None:
    """Its fault is in the log, and it is tried again."""
    wanted = {"nothing": scaled("nothing", lag_of("nothing")), **COORDINATE}
    autoscaler = Autoscaler(wanted, ports_of(world))
    autoscaler.start()
    await request(world)
    await world.clock.advance(seconds(3))

    assert await replicas(autoscaler) == 1
    assert await replicas(autoscaler, "nothing") == 0
    await autoscaler.kill()


@pytest.mark.parametrize("slug", ["coordinate", "unknown"])
async def test_history_begins_empty(world: World, slug: str) -> None:
    """Also for a slug that nobody knows."""
    autoscaler = Autoscaler(COORDINATE, ports_of(world))

    assert autoscaler.history(slug, since=builders.START - timedelta(days=1)) == []
