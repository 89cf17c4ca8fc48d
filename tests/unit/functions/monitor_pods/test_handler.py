"""A watch becomes facts, whatever happens to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.monitor_pods.handler import Needs, reconcile, run
from shared.domain.errors import TemporaryError
from shared.ports.cluster import Captured, Cause, Pod, PodEnd, PodOutput
from tests import builders
from tests.builders import EXECUTION_ID, START, Counted, World, printed, seconds


class Shown:
    """A cluster that shows one list of things per watch, then goes on silently or breaks off."""

    def __init__(self, *watches: Sequence[Pod | PodOutput | Exception]) -> None:
        self.watches = list(watches)
        self.opened = 0
        self.pods: list[Pod] = []
        self.deleted: list[str] = []
        self.swept: list[timedelta] = []

    async def watch(self) -> AsyncIterator[Pod | PodOutput]:
        """Show what is next."""
        self.opened += 1
        if not self.watches:
            await asyncio.Event().wait()
        for item in self.watches.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item

    async def list(self) -> Sequence[Pod]:
        """Return the pods."""
        return self.pods

    async def delete(self, name: str, **_: Any) -> None:
        """Note the removal."""
        self.deleted.append(name)

    async def sweep(self, older_than: timedelta) -> Sequence[str]:
        """Note the sweep."""
        self.swept.append(older_than)
        return ()


def needs_of(world: World, cluster: Any) -> Needs:
    """Return the ports of the function."""
    return Needs(
        cluster=cluster,
        executions=world.documents("executions"),
        events=world.documents("events"),
        publisher=world.said,
        clock=world.clock,
    )


async def follow(world: World, cluster: Shown, *, at_most: float = 30) -> None:
    """Run the function for a while."""
    running = asyncio.create_task(run(needs_of(world, cluster)))
    await world.clock.advance(seconds(at_most))
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


END = builders.ended(PodEnd(Cause.EXIT, exit_code=0, stdout=Captured(b"hi", 2)))
LIFE = (builders.pod(), printed(b"hi"), END)


async def test_a_life_is_told(world: World) -> None:
    """In order, each fact once."""
    await world.add_execution()
    await follow(world, Shown(LIFE))

    assert world.said.types == [
        "pod.created",
        "execution.output",
        "pod.running",
        "execution.started",
        "execution.completed",
        "pod.terminated",
    ]


async def test_an_execution_is_read_at_the_begin_and_at_the_end(world: World) -> None:
    """A cancel may have been recorded meanwhile; that a pod is removed tells nobody anything."""
    await world.add_execution()
    executions: Any = Counted(world.documents("executions"), world.clock)
    cluster = Shown((*LIFE, END, replace(END, deleted=True)))
    running = asyncio.create_task(run(needs_of(world, cluster)._replace(executions=executions)))
    await world.clock.advance(seconds(1))
    running.cancel()
    await asyncio.wait({running})

    assert len(world.said.events) == 6
    assert executions.calls["get"] == 2


async def test_a_lost_run_keeps_what_streams_were_told(world: World) -> None:
    """Its launcher died with the bytes; the history has them, up to the first gap."""
    await world.add_execution()
    for seq, (offset, data) in enumerate([(0, "one "), (4, "two"), (9, "beyond a gap")], start=1):
        told = {"stream": "stdout", "offset": offset, "data": data, "encoding": "utf-8"}
        event = {"execution_id": EXECUTION_ID, "seq": seq, "event_type": "execution.output"}
        await world.documents("events").insert(f"o{seq}", {**event, "data": told})

    await follow(world, Shown([builders.ended(PodEnd(Cause.POD_LOST))]))

    failed = next(e.data for e in world.said.events if e.type == "execution.failed")
    assert failed.model_dump()["stdout"] == "one two"


async def test_a_watch_that_begins_anew_says_nothing_new(world: World) -> None:
    """It tells every pod from the start; what was said is remembered."""
    await world.add_execution()
    await follow(world, Shown(LIFE, LIFE))

    assert len(world.said.events) == 6


async def test_another_process_says_the_same_events(world: World) -> None:
    """By their ids: whoever stores them keeps one of each."""
    await world.add_execution()
    await follow(world, Shown(LIFE))
    await follow(world, Shown(LIFE))

    ids = [event.id for event in world.said.events]
    assert len(ids) == 12
    assert ids[:6] == ids[6:]


@pytest.mark.parametrize(("after", "opened"), [(4.9, 1), (5.1, 2)])
async def test_a_watch_that_breaks_is_opened_again(world: World, after: float, opened: int) -> None:
    """After the pause that it asked for."""
    await world.add_execution()
    broken = (builders.pod(), TemporaryError("cut", retry_after=seconds(5)))
    cluster = Shown(broken, LIFE)

    await follow(world, cluster, at_most=after)

    assert cluster.opened == opened


async def test_nothing_is_missing_after_a_break(world: World) -> None:
    """The new watch brings what the broken one did not."""
    await world.add_execution()

    await follow(world, Shown((builders.pod(), TemporaryError("cut")), LIFE))

    assert "execution.completed" in world.said.types


async def test_a_watch_that_ends_at_once_is_not_opened_without_pause(world: World) -> None:
    """A second between two watches."""
    cluster = Shown(*[()] * 1000)

    await follow(world, cluster, at_most=10)

    assert cluster.opened == 11


async def test_facts_wait_for_the_log(world: World) -> None:
    """What is not said now is said later, and nothing is dropped."""
    await world.add_execution()
    world.said.away = 5

    await follow(world, Shown(LIFE))

    assert len(world.said.events) == 6


async def test_a_fact_that_the_log_never_takes_is_said_without_its_output(world: World) -> None:
    """The end of one script's flood stands in nobody's way."""
    await world.add_execution()
    flood = PodEnd(Cause.EXIT, exit_code=7, stdout=Captured(b"\0" * 9000, 9000))
    world.said.largest = 5000

    await follow(world, Shown((builders.ended(flood),)))

    (fact,) = [event for event in world.said.events if event.type == "execution.completed"]
    data: Any = fact.data
    assert (data.exit_code, data.stdout, data.stdout_truncated) == (7, "", True)
    assert world.said.types[-1] == "pod.terminated"


async def test_a_cancel_recorded_meanwhile_is_seen_at_the_end(world: World) -> None:
    """The document is read again for the last fact."""
    await world.add_execution()
    cluster = Shown(LIFE[:1], LIFE)
    running = asyncio.create_task(run(needs_of(world, cluster)))
    await world.clock.settle()
    await world.documents("executions").change(EXECUTION_ID, set={"cancel_requested_at": START})
    await world.clock.advance(seconds(2))
    running.cancel()
    await asyncio.wait({running})

    assert "execution.cancelled" in world.said.types


async def test_a_pod_of_nobody_is_passed_over(world: World) -> None:
    """The sweep takes it."""
    await follow(world, Shown(LIFE))

    assert world.said.events == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"status": "running"}, False, id="runs"),
        pytest.param({"status": "completed", "finished_at": START}, True, id="over for long"),
        pytest.param(
            {"status": "completed", "finished_at": START + seconds(61)}, False, id="just over"
        ),
    ],
)
async def test_reconcile_removes_what_outlived_its_execution(
    world: World,
    changes: dict[str, Any],
    expected: bool,  # noqa: FBT001
) -> None:
    """A minute after its end, and never while it runs."""
    await world.add_execution(**changes)
    cluster = Shown()
    cluster.pods = [builders.pod()]
    await world.clock.advance(seconds(62))

    await reconcile(needs_of(world, cluster))

    assert bool(cluster.deleted) is expected


async def test_reconcile_removes_inputs_without_a_pod(world: World) -> None:
    """A launch that died between its two steps left them; not those that are just being made."""
    cluster = Shown()

    await reconcile(needs_of(world, cluster))

    assert cluster.swept == [seconds(60)]


async def test_reconcile_removes_pods_of_nobody(world: World) -> None:
    """Their execution was deleted, or never was."""
    cluster = Shown()
    cluster.pods = [builders.pod()]
    await world.clock.advance(seconds(61))

    await reconcile(needs_of(world, cluster))

    assert cluster.deleted == [f"exec-{EXECUTION_ID}"]
