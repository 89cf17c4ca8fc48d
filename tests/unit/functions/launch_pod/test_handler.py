"""Exactly one pod per execution."""

from datetime import timedelta
from typing import Any

import pytest

from functions.launch_pod.handler import Needs, handle
from shared.domain.errors import PermanentError, TemporaryError
from shared.events.event import Event
from shared.events.executions import ExecutionScheduled
from shared.events.origins import order_of
from shared.events.pods import PodCreate, PodDelete
from shared.ports.cluster import Cluster, PodSpec
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID, World


class Recorded:
    """A cluster of which only the calls matter."""

    def __init__(self, error: Exception | None = None) -> None:
        self.created: list[str] = []
        self.deleted: list[tuple[float, bool]] = []
        self.error = error

    async def create(self, spec: PodSpec) -> None:
        """Note the pod, or fail."""
        self.created.append(spec.name)
        if self.error is not None:
            raise self.error

    async def delete(self, name: str, *, grace: timedelta, cancel: bool = False) -> None:
        """Note the removal."""
        assert name == f"exec-{EXECUTION_ID}"
        self.deleted.append((grace.total_seconds(), cancel))


def needs_of(world: World, cluster: Recorded) -> Needs:
    """Return the ports of the function."""
    typed: Any = cluster
    port: Cluster = typed
    return Needs(
        executions=world.documents("executions"),
        cluster=port,
        publisher=world.said,
        clock=world.clock,
    )


def scheduled(event_id: str = "s") -> Event:
    """Return the work."""
    data = ExecutionScheduled(**order_of(builders.execution()), pool="p", scheduled_at=START)
    return builders.event(data, event_id=event_id)


def relaunch() -> Event:
    """Return the saga's order to try again."""
    data = PodCreate(
        **order_of(builders.execution()), saga_id="s", pool="p", scheduled_at=START, attempt=2
    )
    return builders.event(data)


def remove(reason: Any, grace: float) -> Event:
    """Return the order to clean up."""
    data = PodDelete(
        saga_id="s",
        execution_id=EXECUTION_ID,
        user_id=USER_ID,
        pod_name=f"exec-{EXECUTION_ID}",
        reason=reason,
        grace_seconds=grace,
    )
    return builders.event(data)


async def document(world: World) -> dict[str, Any]:
    """Return the execution."""
    found = await world.documents("executions").get(EXECUTION_ID)
    assert found is not None
    return found


async def test_what_is_scheduled_is_launched(world: World) -> None:
    """The claim, the pod, its name."""
    await world.add_execution(status="scheduled")
    cluster = Recorded()

    await handle(scheduled(), needs_of(world, cluster))

    assert cluster.created == [f"exec-{EXECUTION_ID}"]
    found = await document(world)
    assert (found["status"], found["pod_name"]) == ("launching", f"exec-{EXECUTION_ID}")


async def test_a_redelivery_makes_no_second_pod(world: World) -> None:
    """The name is written: there is nothing left to do."""
    await world.add_execution(status="scheduled")
    cluster = Recorded()

    await handle(scheduled(), needs_of(world, cluster))
    await handle(scheduled(), needs_of(world, cluster))

    assert len(cluster.created) == 1


async def test_a_crash_after_the_claim_is_taken_up_by_the_same_cause(world: World) -> None:
    """Only by that: any other event lost the race."""
    await world.add_execution(status="launching", launch_cause="s")
    cluster = Recorded()

    await handle(scheduled("other"), needs_of(world, cluster))
    assert cluster.created == []

    await handle(scheduled("s"), needs_of(world, cluster))
    assert len(cluster.created) == 1


async def test_a_relaunch_takes_over_a_launch_without_a_pod(world: World) -> None:
    """Its first cause may never come again."""
    await world.add_execution(status="launching", launch_cause="s")
    cluster = Recorded()

    await handle(relaunch(), needs_of(world, cluster))

    assert len(cluster.created) == 1


@pytest.mark.parametrize("status", ["completed", "failed", "timeout", "cancelled", "error"])
async def test_nothing_is_made_for_what_is_over(world: World, status: str) -> None:
    """A command that comes after the clean-up makes no second pod."""
    await world.add_execution(status=status, launch_cause="s")
    cluster = Recorded()

    await handle(scheduled("s"), needs_of(world, cluster))
    await handle(relaunch(), needs_of(world, cluster))

    assert cluster.created == []
    assert world.said.events == []


async def test_no_pod_is_relaunched_once_there_was_one(world: World) -> None:
    """At most one pod is ever made."""
    await world.add_execution(status="launching", pod_name=f"exec-{EXECUTION_ID}")
    cluster = Recorded()

    await handle(relaunch(), needs_of(world, cluster))

    assert cluster.created == []


async def test_a_cancel_before_the_claim_ends_it_here(world: World) -> None:
    """Nobody else knows that there will be no pod."""
    await world.add_execution(status="scheduled", cancel_requested_at=START, cancelled_by="u")
    cluster = Recorded()

    await handle(scheduled(), needs_of(world, cluster))

    assert cluster.created == []
    assert world.said.types == ["execution.cancelled"]


async def test_a_cancel_after_a_cut_off_launch_makes_no_pod(world: World) -> None:
    """Nor is an end said: a pod may exist, and its own report is the better one."""
    await world.add_execution(status="launching", launch_cause="s", cancel_requested_at=START)
    cluster = Recorded()

    await handle(scheduled("s"), needs_of(world, cluster))

    assert cluster.created == []
    assert world.said.events == []


async def test_what_can_never_be_made_fails_at_launch(world: World) -> None:
    """With a code, a sentence and the phase that makes it an error."""
    await world.add_execution(status="scheduled")
    cluster = Recorded(PermanentError("no such image"))

    await handle(scheduled(), needs_of(world, cluster))

    (said,) = world.said.events
    data: Any = said.data
    assert (data.phase, data.error_code) == ("launch", "cannot_launch")
    assert "no such image" in data.error_message


async def test_a_cluster_without_an_answer_is_asked_again(world: World) -> None:
    """The runtime tries again, and the same cause goes on where it was."""
    await world.add_execution(status="scheduled")
    with pytest.raises(TemporaryError):
        await handle(scheduled(), needs_of(world, Recorded(TemporaryError("busy"))))

    cluster = Recorded()
    await handle(scheduled(), needs_of(world, cluster))

    assert len(cluster.created) == 1


@pytest.mark.parametrize(
    ("reason", "grace", "cancel", "said"),
    [
        ("finished", 0.0, False, ["pod.deleted"]),
        ("orphan", 30.0, False, ["pod.deleted"]),
        ("failed", 0.0, False, ["pod.deleted"]),
        ("cancelled", 2.0, True, []),
        ("deadline", 2.0, True, []),
    ],
)
async def test_removal_by_reason(
    world: World,
    reason: str,
    grace: float,
    cancel: bool,  # noqa: FBT001
    said: list[str],
) -> None:
    """What is ended early stays until its report is stored."""
    cluster = Recorded()

    await handle(remove(reason, grace), needs_of(world, cluster))

    assert cluster.deleted == [(grace, cancel)]
    assert world.said.types == said
