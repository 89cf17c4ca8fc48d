"""A replica is kept running until it is told to stop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.domain.errors import TemporaryError
from shared.domain.runtimes import Offer
from shared.events.topics import Topic
from shared.ports.event_log import TopicPartition
from shared.runtime.outbox import Outbox
from shared.runtime.ports import Ports
from shared.runtime.replica import Replica
from tests.builders import START, World, seconds


class Flaky:
    """A port whose calls fail for a while, by name."""

    def __init__(self, inner: Any, **failures: list[Exception]) -> None:
        self.inner = inner
        self.failures = failures
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        self.calls[name] = self.calls.get(name, 0) + 1
        failures = self.failures.get(name, [])
        if not failures:
            return attribute

        async def fail(*_: Any, **__: Any) -> None:
            raise failures.pop(0)

        return fail


class Shown:
    """A cluster that shows nothing."""

    def __init__(self) -> None:
        self.lists = 0

    async def list(self) -> list[Any]:
        """Return no pods."""
        self.lists += 1
        return []

    async def watch(self) -> AsyncIterator[Any]:
        """Show nothing for ever."""
        await asyncio.Event().wait()
        yield


def ports_of(world: World, *, log: Any = None, cluster: Any = None) -> Ports:
    """Return the ports of a process."""
    signals: Any = None
    shown: Any = cluster or Shown()
    return Ports(
        log=log or world.log,
        outbox=Outbox(world.log, world.clock, world.documents),
        signals=signals,
        cluster=shown,
        clock=world.clock,
        ids=world.ids,
        offer=Offer(),
        settings=world.settings,
    )


async def members(world: World) -> int:
    """Return how many replicas of coordinate are in the group."""
    return len(world.log._groups["coordinate"].members)


async def stopped(world: World, replica: Replica) -> None:
    """Stop a replica while time goes on."""
    stopping = asyncio.create_task(replica.stop())
    await world.clock.advance(seconds(5))
    assert stopping.done()
    stopping.result()


@pytest.mark.parametrize(
    "error", [TemporaryError("away"), ValueError("bug")], ids=["temporary", "bug"]
)
async def test_a_fault_of_its_loop_is_followed_by_another_try(
    world: World, error: Exception
) -> None:
    """A second later."""
    replica = Replica("coordinate", ports_of(world, log=Flaky(world.log, join=[error])))
    await world.clock.advance(seconds(0.5))
    assert "coordinate" not in world.log._groups
    await world.clock.advance(seconds(1))

    assert await members(world) == 1
    await stopped(world, replica)


async def test_a_stopped_replica_leaves_its_group(world: World) -> None:
    """So that another takes over without waiting."""
    replica = Replica("coordinate", ports_of(world))
    await world.clock.advance(seconds(1))

    await stopped(world, replica)

    assert await members(world) == 0


async def test_a_stop_before_the_start_is_a_stop(world: World) -> None:
    """It never gets going."""
    replica = Replica("coordinate", ports_of(world))

    await stopped(world, replica)

    assert await members(world) == 0


async def test_a_killed_replica_commits_nothing(world: World) -> None:
    """As if its process had died."""
    replica = Replica("coordinate", ports_of(world))
    await world.clock.advance(seconds(1))

    await replica.kill()

    place = TopicPartition(Topic.TIMERS, 0)
    positions = await world.log.positions("coordinate", [Topic.TIMERS])
    assert positions[place].committed == 0
    assert await members(world) == 0


async def test_it_puts_things_right_at_its_start_and_from_then_on(world: World) -> None:
    """Every five minutes here."""
    cluster = Shown()
    replica = Replica("monitor-pods", ports_of(world, cluster=cluster))
    await world.clock.advance(seconds(1))
    assert cluster.lists == 1
    await world.clock.advance(seconds(300))

    assert cluster.lists == 2
    await stopped(world, replica)


@pytest.mark.parametrize(
    ("error", "after"),
    [(TemporaryError("away", retry_after=seconds(7)), 8), (ValueError("bug"), 301)],
    ids=["temporary", "bug"],
)
async def test_putting_right_that_failed_is_tried_again(
    world: World, error: Exception, after: float
) -> None:
    """Soon, where it may succeed; at the next turn, where it is a bug."""
    cluster = Flaky(Shown(), list=[error])
    replica = Replica("monitor-pods", ports_of(world, cluster=cluster))
    await world.clock.advance(seconds(after - 2))
    assert cluster.calls["list"] == 1
    await world.clock.advance(seconds(2))

    assert cluster.calls["list"] == 2
    await stopped(world, replica)


async def test_what_waits_for_the_clock_is_ended_by_a_stop(world: World) -> None:
    """It would run for ever otherwise."""
    replica = Replica("fire-timers", ports_of(world))
    await world.clock.advance(seconds(3))

    await stopped(world, replica)

    assert world.clock.now() >= START
