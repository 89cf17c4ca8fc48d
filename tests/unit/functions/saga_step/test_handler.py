"""What a saga says and orders, in every row of its table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.saga_step import rules
from functions.saga_step.handler import Known, Needs, handle, handle_batch, reconcile
from shared.domain.executions import Status
from shared.domain.identifiers import saga_id_of
from shared.events.event import Event, Payload
from shared.events.executions import (
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionQueued,
    ExecutionRejected,
    ExecutionRequested,
    ExecutionStarted,
)
from shared.events.origins import order_of
from shared.events.pods import PodCreated, PodDeleted
from shared.events.results import ResultStored
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID, Counted, World, seconds

SAGA_ID = saga_id_of(EXECUTION_ID)
WHO: dict[str, Any] = {"execution_id": EXECUTION_ID, "user_id": USER_ID}
POD: dict[str, Any] = {**WHO, "pod_name": f"exec-{EXECUTION_ID}"}


def requested() -> Payload:
    """Return the request."""
    return ExecutionRequested(**order_of(builders.execution()))


def queued(position: int) -> Payload:
    """Return a place in the queue."""
    return ExecutionQueued(**WHO, position=position, priority="normal", queue_depth=1)


def created() -> Payload:
    """Return that the pod exists."""
    return PodCreated(**POD, image="i")


def started() -> Payload:
    """Return that the script runs."""
    return ExecutionStarted(**POD, started_at=START)


def completed() -> Payload:
    """Return that the script ended."""
    return ExecutionCompleted(**WHO, exit_code=0)


def stored(status: str = "completed") -> Payload:
    """Return that the result is in."""
    return ResultStored(**WHO, status=status, storage_path=EXECUTION_ID, size_bytes=0, result={})


def deleted() -> Payload:
    """Return that the pod is gone."""
    return PodDeleted(**POD, reason="finished")


def cancel() -> Payload:
    """Return that somebody wants its end."""
    return ExecutionCancelRequested(**WHO, cancelled_by="user-1", reason="enough")


def needs_of(world: World) -> Needs:
    """Return the ports of the function."""
    return Needs(
        sagas=world.documents("sagas"),
        executions=world.documents("executions"),
        clock=world.clock,
        settings=world.settings,
        known=Known(),
    )


async def tell(world: World, *facts: Payload) -> None:
    """Let facts arrive one by one."""
    for fact in facts:
        await handle(builders.event(fact, at=world.clock.now()), needs_of(world))


async def ring(world: World) -> None:
    """Let time pass until the deadline, and look for what is overdue."""
    due = (await state(world))["due_at"]
    await world.clock.advance(max(due - world.clock.now(), seconds(0)))
    await reconcile(needs_of(world))


async def ring_until(world: World, at: float) -> None:
    """Look at every deadline until an instant, in seconds since the request."""
    end = START + seconds(at)
    while True:
        due = (await state(world)).get("due_at")
        if due is None or due > end:
            await world.clock.advance(end - world.clock.now())
            return
        await ring(world)


async def state(world: World) -> dict[str, Any]:
    """Return the saga."""
    saga = await world.documents("sagas").get(SAGA_ID)
    assert saga is not None
    return saga


async def said(world: World) -> list[str]:
    """Return what the saga said, but for the words about itself."""
    events = await world.emitted("sagas")
    return [event.type for event in events if not event.type.startswith("saga.")]


async def orders(world: World) -> list[tuple[str, str]]:
    """Return each order to remove the pod, with its reason."""
    return [
        (event.type, event.data.reason)  # type: ignore[attr-defined]
        for event in await world.emitted("sagas")
        if event.type == "pod.delete"
    ]


async def test_the_way_of_a_success(world: World) -> None:
    """Every step is told once, the pod is removed after the result, and the alarm with it."""
    await world.add_execution()
    way = (requested(), queued(1), queued(0), created(), started(), completed(), stored())
    await tell(world, *way)

    assert await orders(world) == [("pod.delete", "finished")]

    await tell(world, deleted())

    saga = await state(world)
    assert saga["state"] == "completed"
    assert saga["completed_steps"] == [step.name for step in rules.STEPS]
    assert "due_at" not in await state(world)
    types = [event.type for event in await world.emitted("sagas")]
    assert types.count("saga.step_completed") == len(rules.STEPS)
    assert types[0] == "saga.started"
    assert types[-1] == "saga.completed"


async def test_facts_delivered_twice_say_nothing_twice(world: World) -> None:
    """At least once is as good as once."""
    await world.add_execution()
    way = (requested(), queued(0), created(), started(), completed(), stored(), deleted())
    await tell(world, *(fact for fact in way for _ in range(2)))
    await tell(world, *way)

    ids = [event.id for event in await world.emitted("sagas")]
    assert len(ids) == len(set(ids))


_way = (requested(), queued(0), created(), started(), completed(), stored())


@given(facts=st.permutations(_way), cut=st.integers(0, len(_way)))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
async def test_any_order_of_facts_orders_the_clean_up(facts: Sequence[Payload], cut: int) -> None:
    """However topics overtake each other, alone or in a batch, the pod is removed and it ends."""
    world = World()
    await world.add_execution(status="completed", scheduled_at=START)
    events: list[Event] = [builders.event(fact) for fact in facts]

    await handle_batch(events[:cut], needs_of(world))
    for event in events[cut:]:
        await handle(event, needs_of(world))

    reasons = {reason for _, reason in await orders(world)}
    await tell(world, deleted())
    saga = await state(world)
    await world.close()
    assert "finished" in reasons
    assert saga["state"] == "completed"


async def test_a_late_pod_is_removed_after_the_end(world: World) -> None:
    """A launch that was slow, or cut off, leaves no pod behind."""
    await world.add_execution(status="error", scheduled_at=START)
    everything = [builders.event(fact) for fact in (queued(0), stored("error"), deleted())]
    await handle_batch(everything, needs_of(world))

    await tell(world, created())

    assert await orders(world) == [("pod.delete", "finished"), ("pod.delete", "orphan")]


async def test_a_fact_about_nothing_begins_no_saga(world: World) -> None:
    """An event about an execution that does not exist is nobody's."""
    await tell(world, queued(1))

    assert await world.documents("sagas").count() == 0


async def test_a_refused_submission_ends_no_execution(world: World) -> None:
    """A rejection without an execution is about a request that was never accepted."""
    await world.add_execution()
    await tell(world, requested(), ExecutionRejected(code="malformed", message="no"))

    assert "ended" not in (await state(world))["facts"]


async def test_slow_admission_is_alerted_once_then_ended(world: World) -> None:
    """Nobody queued it: an alarm after a minute, the end at the queue's limit."""
    await world.add_execution()
    await tell(world, requested())
    await ring_until(world, 3_614)
    assert await said(world) == ["system.alert"]

    await ring_until(world, 3_616)

    assert await said(world) == ["system.alert", "execution.failed"]


async def test_no_slot_in_time_ends_it(world: World) -> None:
    """What the queue should have rejected is ended 15 s later."""
    await world.add_execution()
    await tell(world, requested(), queued(1))

    await ring_until(world, 3_616)

    (failed,) = [e for e in await world.emitted("sagas") if e.type == "execution.failed"]
    assert failed.data.error_code == "queue_expired"  # type: ignore[attr-defined]
    assert failed.data.phase == "launch"  # type: ignore[attr-defined]


async def test_no_pod_is_launched_three_times_in_all(world: World) -> None:
    """Two orders more, then it is given up."""
    await world.add_execution(status="launching", scheduled_at=START)
    await tell(world, requested(), queued(0))

    await ring_until(world, 181)

    assert await said(world) == ["pod.create", "pod.create", "pod.delete", "execution.failed"]


async def test_no_start_in_time_ends_it(world: World) -> None:
    """Five minutes after the pod was made."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created())

    await ring_until(world, 301)

    assert await said(world) == ["pod.delete", "execution.failed"]


async def test_no_end_in_time_is_a_timeout(world: World) -> None:
    """The last net: its own limit and 15 s."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started())

    await ring_until(world, 46)

    assert await said(world) == ["pod.delete", "execution.timeout"]


async def test_a_late_result_is_alerted_once_and_forced_at_the_end(world: World) -> None:
    """A terminal fact that nobody can store is not the last word."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started(), completed())
    await ring_until(world, 3_670)
    assert await said(world) == ["system.alert"]

    await ring_until(world, 3_676)

    assert await said(world) == ["system.alert", "pod.delete", "execution.timeout"]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param((), id="requested"),
        pytest.param((queued(1),), id="queued"),
        pytest.param((queued(0),), id="granted"),
        pytest.param((queued(0), created()), id="created"),
        pytest.param((queued(0), created(), started()), id="started"),
    ],
)
async def test_the_end_is_said_by_the_bound_of_the_whole(
    world: World, facts: tuple[Payload, ...]
) -> None:
    """Acceptance + queue limit + timeout + 45 s, wherever it got stuck, however late."""
    await world.add_execution(status="launching", scheduled_at=START)
    await tell(world, requested())
    await ring_until(world, 3_610)
    await tell(world, *facts)

    await ring_until(world, 3_676)

    assert {"execution.failed", "execution.timeout"} & set(await said(world))


async def test_the_last_word_is_not_repeated_without_pause(world: World) -> None:
    """Past the bound the alarm rings every half minute, not in a circle."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started(), completed())
    await ring_until(world, 3_676)

    await ring(world)

    assert world.clock.now() >= START + seconds(3_705)


async def test_clean_up_is_ordered_five_times(world: World) -> None:
    """Then a person is told, and the saga ends all the same."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started(), completed(), stored())

    await ring_until(world, 600)

    assert await said(world) == ["pod.delete"] * 5 + ["system.alert"]
    assert (await state(world))["state"] == "completed"
    assert "due_at" not in await state(world)


async def test_cancel_before_any_slot_ends_without_a_pod(world: World) -> None:
    """There is nothing to remove."""
    await world.add_execution()
    await tell(world, requested(), queued(1), cancel(), stored("cancelled"))

    saga = await state(world)
    assert saga["state"] == "cancelled"
    assert await orders(world) == []


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param((queued(0), cancel()), id="granted"),
        pytest.param((queued(0), created(), cancel()), id="created"),
        pytest.param((created(), cancel()), id="created, grant late"),
        pytest.param((queued(0), created(), started(), cancel()), id="started"),
    ],
)
async def test_cancel_with_a_slot_ends_the_pod(world: World, facts: tuple[Payload, ...]) -> None:
    """It gets two seconds, and may report what it printed."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), *facts)

    assert await orders(world) == [("pod.delete", "cancelled")]


async def test_a_pod_that_appears_after_its_cancel_is_ended(world: World) -> None:
    """The first order found nothing to end."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), cancel(), created())

    assert await orders(world) == [("pod.delete", "cancelled")] * 2


async def test_a_cancelled_run_without_a_word_is_ended_by_the_saga(world: World) -> None:
    """Fifteen seconds after the request, marked as forced."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started(), cancel())

    await ring_until(world, 16)

    assert await said(world) == ["pod.delete", "execution.cancelled"]


@pytest.mark.parametrize(
    ("status", "word", "final"),
    [
        (Status.COMPLETED, "saga.completed", "completed"),
        (Status.FAILED, "saga.failed", "failed"),
        (Status.TIMEOUT, "saga.failed", "timeout"),
        (Status.ERROR, "saga.failed", "failed"),
        (Status.CANCELLED, "saga.cancelled", "cancelled"),
    ],
)
async def test_each_end_has_its_final_state(
    world: World, status: Status, word: str, final: str
) -> None:
    """And a final state is never left."""
    await world.add_execution(scheduled_at=START)
    await tell(world, requested(), queued(0), created(), started(), stored(status), deleted())
    await tell(world, started(), completed(), stored("completed"), cancel())

    assert (await state(world))["state"] == final
    assert [event.type for event in await world.emitted("sagas")][-1] == word


async def test_what_is_not_overdue_is_left_alone(world: World) -> None:
    """Each fact moves the deadline; an instant before it nothing happens."""
    await world.add_execution()
    await tell(world, requested(), queued(0), created(), started())
    before = await state(world)
    await world.clock.advance(before["due_at"] - world.clock.now() - seconds(0.001))

    await reconcile(needs_of(world))

    assert await state(world) == before


async def test_many_that_are_overdue_are_acted_on_in_one_look(world: World) -> None:
    """However many pages they fill, each once."""
    for number in range(250):
        one = builders.execution_id(number)
        fact = ExecutionRequested(**order_of(await world.add_execution(execution_id=one)))
        await handle(builders.event(fact, subject=one), needs_of(world))
    await world.clock.advance(seconds(60))

    await reconcile(needs_of(world))

    alerts = [event for event in await world.emitted("sagas") if event.type == "system.alert"]
    assert len(alerts) == 250


async def test_one_that_cannot_be_acted_on_holds_up_no_other(world: World) -> None:
    """It is reported, and the others are acted on."""
    await world.add_execution()
    await tell(world, requested())
    await world.documents("sagas").insert(
        "broken", {"saga_id": "broken", "due_at": START, "completed_at": None}
    )
    await world.clock.advance(seconds(60))

    with pytest.raises(KeyError):
        await reconcile(needs_of(world))

    assert await said(world) == ["system.alert"]


async def test_a_request_tells_what_a_saga_begins_with(world: World) -> None:
    """As the stored execution does where another fact comes first."""
    stored = await world.add_execution()
    request = builders.event(requested(), at=START)
    request = replace(request, traceparent=stored["traceparent"])
    executions: Any = Counted(world.documents("executions"), world.clock)

    await handle(request, needs_of(world)._replace(executions=executions))
    first = await state(world)
    await world.documents("sagas").delete(SAGA_ID)
    await tell(world, queued(1))
    second = await state(world)

    assert executions.calls == {}
    of_facts = {"facts", "due_at", "completed_steps", "current_step", "outbox"}
    assert {name: first[name] for name in first.keys() - of_facts} == {
        name: second[name] for name in second.keys() - of_facts
    }


async def test_a_replica_remembers_its_sagas(world: World) -> None:
    """It reads none that it wrote itself, and forgets those that are over."""
    await world.add_execution()
    sagas: Any = Counted(world.documents("sagas"), world.clock)
    needs = needs_of(world)._replace(sagas=sagas)
    for fact in (requested(), queued(0), created(), started(), completed(), stored(), deleted()):
        await handle(builders.event(fact, at=world.clock.now()), needs)

    assert (await state(world))["state"] == "completed"
    assert sagas.calls["get"] == 0
    assert needs.known.documents == {}


async def test_what_a_replica_remembers_may_be_out_of_date(world: World) -> None:
    """What another one wrote meanwhile is found, and nothing of it is lost."""
    await world.add_execution()
    one, other = needs_of(world), needs_of(world)
    way = [(requested(), one), (queued(0), other), (created(), one), (started(), other)]
    for fact, needs in [*way, (completed(), one), (stored(), other), (deleted(), one)]:
        await handle(builders.event(fact, at=world.clock.now()), needs)

    saga = await state(world)
    assert saga["state"] == "completed"
    assert saga["completed_steps"] == [step.name for step in rules.STEPS]


async def test_a_redelivered_request_changes_nothing(world: World) -> None:
    """Also where this replica has never heard of the saga."""
    await world.add_execution()
    await tell(world, requested(), queued(0), created())
    before = await state(world)

    await tell(world, requested())

    assert await state(world) == before
