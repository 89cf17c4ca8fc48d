"""The saga as a table."""

from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.saga_step import rules
from tests.builders import START, seconds

FACTS: tuple[rules.Fact, ...] = get_args(rules.Fact)
some_facts = st.dictionaries(
    st.sampled_from(FACTS), st.integers(1, 5000).map(lambda s: START + seconds(s))
).map(lambda found: {"requested": START, **found})
orders = st.permutations([fact for fact in FACTS if fact != "requested"])


def saga(facts: dict[str, datetime], **context: Any) -> dict[str, Any]:
    """Return as much of a saga as the rules look at."""
    return {
        "facts": facts,
        "context": {"timeout_seconds": 30, "attempts": 1, **context},
        "deadline_at": rules.whole_deadline(START, 30, seconds(3600)),
        "queue_deadline_at": rules.queue_deadline(START, seconds(3600)),
    }


def facts_until(last: rules.Fact) -> dict[str, datetime]:
    """Return facts up to one, ten seconds apart."""
    return {
        fact: START + seconds(10 * number)
        for number, fact in enumerate(FACTS[: FACTS.index(last) + 1])
    }


@given(order=orders)
def test_the_order_of_facts_does_not_matter(order: list[rules.Fact]) -> None:
    """A saga is a join: the same facts in any order complete the same steps."""
    facts = {"requested": START}
    for second, fact in enumerate(order):
        facts[fact] = START + seconds(second)

    assert rules.completed_steps(facts) == [step.name for step in rules.STEPS]
    assert rules.is_over(facts)


@given(facts=some_facts)
def test_there_is_a_deadline_until_it_is_over(facts: dict[str, datetime]) -> None:
    """Whatever was seen and whatever was not, something will wake the saga, or nothing is left."""
    has_deadline = rules.deadline(saga(facts)) is not None

    assert has_deadline is not rules.is_over(facts)
    assert (rules.current_step(facts) is None) is rules.is_over(facts)


@given(facts=some_facts, retried=st.none() | st.integers(0, 5000))
def test_no_result_means_a_deadline_by_the_bound_of_the_whole(
    facts: dict[str, datetime], retried: int | None
) -> None:
    """Until the bound passed, no step and no retry waits beyond it."""
    facts.pop("result_stored", None)
    at = None if retried is None else START + seconds(retried)
    one = saga(facts, retried_at=at)

    due = rules.deadline(one)

    assert due is not None
    assert due <= one["deadline_at"] or (at is not None and at >= one["deadline_at"])


@given(facts=some_facts)
def test_the_view_has_every_step_once(facts: dict[str, datetime]) -> None:
    """A person sees all steps, at most one of them under way."""
    view = rules.steps_view(saga(facts))

    assert [row["name"] for row in view] == [step.name for step in rules.STEPS]
    assert sum(row["state"] == "running" for row in view) == (not rules.is_over(facts))


@pytest.mark.parametrize(
    ("last", "step", "after_last"),
    [
        pytest.param("requested", "validate_execution", 60, id="admission"),
        pytest.param("granted", "create_pod", 60, id="creation"),
        pytest.param("pod_created", "start_script", 300, id="start"),
        pytest.param("started", "run_script", 45, id="run"),
        pytest.param("ended", "store_result", 30, id="store"),
        pytest.param("result_stored", "clean_up", 30, id="clean-up"),
    ],
)
def test_each_step_has_its_time(last: rules.Fact, step: str, after_last: int) -> None:
    """The time of a step runs from the fact that began it."""
    facts = facts_until(last)
    current = rules.current_step(facts)

    assert current is not None
    assert current.name == step
    assert rules.deadline(saga(facts)) == facts[last] + seconds(after_last)


def test_waiting_for_a_slot_lasts_as_long_as_the_queue_allows() -> None:
    """The queue rejects at its limit; the saga looks 15 s later."""
    assert rules.deadline(saga(facts_until("queued"))) == START + seconds(3615)


def test_slow_admission_is_given_the_queue_limit_once_told() -> None:
    """After the alarm, the next thing to happen is the end of the queue's patience."""
    due = rules.deadline(
        saga({"requested": START}, alerted="validate_execution", retried_at=START + seconds(60))
    )

    assert due == START + seconds(3615)


def test_a_cancelled_run_has_fifteen_seconds_to_report() -> None:
    """Then the saga speaks for it."""
    one = saga(facts_until("started"), cancel_requested_at=START + seconds(41))

    assert rules.deadline(one) == START + seconds(56)


def test_what_was_repeated_gets_time_to_come_back() -> None:
    """A deadline that is always in the past would fire without pause."""
    one = saga(facts_until("started"), retried_at=START + seconds(90))

    assert rules.deadline(one) == START + seconds(135)


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        ("completed", "completed"),
        ("timeout", "timeout"),
        ("cancelled", "cancelled"),
        ("failed", "failed"),
        ("error", "failed"),
        (None, "failed"),
    ],
)
def test_final_state_follows_from_the_execution(terminal: str | None, expected: str) -> None:
    """Each end of an execution is one end of its saga."""
    assert rules.final_state(terminal) == expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        pytest.param("queued", [], id="nothing was taken"),
        pytest.param("granted", ["create_pod", "allocate_resources"], id="slot"),
        pytest.param("pod_created", ["start_script", "create_pod", "allocate_resources"], id="pod"),
        pytest.param(
            "started",
            ["run_script", "start_script", "create_pod", "allocate_resources"],
            id="script",
        ),
    ],
)
def test_what_was_begun_is_undone_newest_first(last: rules.Fact, expected: list[str]) -> None:
    """An end that was no success undoes what was done."""
    assert rules.compensations({**facts_until(last), "ended": START}, "failed") == expected


def test_a_success_undoes_nothing() -> None:
    """Its clean-up is a step, no compensation."""
    assert rules.compensations(facts_until("ended"), "completed") == []


@pytest.mark.parametrize(
    ("last", "step"),
    [("requested", "validate_execution"), ("granted", "create_pod"), ("started", "run_script")],
)
def test_the_failed_step_is_the_one_that_was_under_way(last: rules.Fact, step: str) -> None:
    """A person reads where it went wrong."""
    assert rules.failed_step({**facts_until(last), "ended": START}) == step
