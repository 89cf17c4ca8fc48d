"""How often and how late a dead letter is tried again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.retry_dead_letters import rules
from shared.events.topics import Topic
from tests.builders import START, seconds


@given(topic=st.sampled_from(list(Topic)), attempt=st.integers(1, 12), chance=st.floats(0, 1))
def test_waits_stay_within_the_cap(topic: Topic, attempt: int, chance: float) -> None:
    """However often it failed, and whatever the jitter, or there is no wait at all."""
    policy = rules.policy_of(topic)
    wait = rules.delay(policy, attempt, chance)

    assert (wait is None) is (attempt > policy.attempts)
    assert wait is None or timedelta(0) <= wait <= policy.cap


def waits(topic: str) -> list[float]:
    """Return the waits of a topic in the middle of their jitter, in seconds."""
    found = []
    attempt = 1
    while (wait := rules.delay(rules.policy_of(topic), attempt, 0.5)) is not None:
        found.append(wait.total_seconds())
        attempt += 1
    return found


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("execution_events", [30, 60, 120, 240, 300]),
        ("execution_tasks", [30, 60, 120, 240, 300]),
        ("saga_commands", [30, 60, 120, 240, 300]),
        ("pod_events", [60, 180, 540]),
        ("execution_results", [0, 0, 0, 60, 120, 240, 480, 960]),
        ("user_events", [60, 150, 375, 937.5]),
        ("timers", [60, 150, 375, 937.5]),
        ("dead_letters", [60, 120, 240, 480, 960]),
        ("somebody_elses", [60, 120, 240, 480, 960]),
    ],
)
def test_each_topic_has_its_policy(topic: str, expected: list[float]) -> None:
    """Attempts, base, factor and cap."""
    assert waits(topic) == expected


def test_jitter_spreads_by_a_tenth() -> None:
    """What failed together does not come back together."""
    policy = rules.policy_of("execution_events")

    assert rules.delay(policy, 1, 0) == seconds(27)
    assert rules.delay(policy, 1, 1) == seconds(33)


@pytest.mark.parametrize(
    ("status", "planned", "expected"),
    [
        pytest.param("scheduled", 0, True, id="now"),
        pytest.param("scheduled", 1, False, id="planned anew"),
        pytest.param("pending", None, True, id="never planned"),
        pytest.param("retried", None, False, id="retried"),
        pytest.param("parked", None, False, id="parked"),
        pytest.param("discarded", None, False, id="discarded"),
    ],
)
def test_only_the_planned_instant_is_due(
    status: str,
    planned: int | None,
    expected: bool,  # noqa: FBT001
) -> None:
    """A timer delivered again does not try what waits for a later one."""
    at = None if planned is None else START + seconds(planned)

    assert rules.is_due({"status": status, "next_retry_at": at}, START) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [("ce_id", True), ("anything", True), ("dlqtopic", False), ("knativeerrordest", False)],
)
def test_what_was_added_is_told_from_the_original(header: str, expected: bool) -> None:  # noqa: FBT001
    """Else each failure would add its headers once more."""
    assert rules.is_original(header) is expected
