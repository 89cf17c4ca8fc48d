"""The pool as a ledger."""

from datetime import timedelta
from typing import Any

import pytest

from functions.coordinate import rules
from shared.domain.execution_settings import ExecutionSettings
from tests import builders
from tests.builders import START, seconds

SETTINGS = ExecutionSettings(max_concurrent_executions=3, max_concurrent_per_user=2)


def holder(user: str = "u", cpu: int = 200, memory: int = 128 * 1024**2) -> dict[str, Any]:
    """Return an entry of the ledger."""
    return {"user": user, "cpu": cpu, "memory": memory, "since": START}


def pool(*holders: dict[str, Any], **capacity: int) -> dict[str, Any]:
    """Return a pool with some holders."""
    fresh = rules.new_pool("p", SETTINGS)
    capacity = {**fresh["capacity"], **capacity}
    return {**fresh, "capacity": capacity, "holders": dict(enumerate(holders))}


def test_an_execution_holds_what_it_requests() -> None:
    """Requests, not limits: a run rarely uses all that it may."""
    assert rules.holding(builders.execution(), START) == holder(user=builders.USER_ID)


@pytest.mark.parametrize(
    ("taken", "capacity", "expected"),
    [
        pytest.param(2, {}, True, id="the last slot"),
        pytest.param(3, {}, False, id="no slot"),
        pytest.param(2, {"cpu": 600}, True, id="the last of the processor"),
        pytest.param(2, {"cpu": 599}, False, id="no processor"),
        pytest.param(2, {"memory": 3 * 128 * 1024**2 - 1}, False, id="no memory"),
    ],
)
def test_a_run_needs_slot_processor_and_memory(
    taken: int,
    capacity: dict[str, int],
    expected: bool,  # noqa: FBT001
) -> None:
    """All three, to the last unit."""
    assert rules.fits(pool(*[holder()] * taken, **capacity), holder()) is expected


def test_users_at_their_limit_are_skipped() -> None:
    """Only those, and in a stable order."""
    taken = pool(holder("b"), holder("a"), holder("b"), holder("a"), holder("c"))

    assert rules.users_at_limit(taken, SETTINGS) == ["a", "b"]


def run(duration: float) -> dict[str, Any]:
    """Return a finished run."""
    return {"started_at": START, "finished_at": START + seconds(duration)}


def test_wait_is_estimated_from_recent_runs() -> None:
    """Position x mean / slots."""
    assert rules.estimated_wait(4, rules.mean_duration([run(10)] * 5), 2) == 20.0


@pytest.mark.parametrize("recent", [[], [run(1)] * 4, [run(1)] * 4 + [{"started_at": START}]])
def test_too_few_runs_say_nothing(recent: list[dict[str, Any]]) -> None:
    """A guess would be worse than none."""
    assert rules.estimated_wait(1, rules.mean_duration(recent), 1) is None


def test_a_pool_has_what_the_settings_say() -> None:
    """Slots, processor and memory."""
    assert rules.capacity(SETTINGS) == {"slots": 3, "cpu": 32_000, "memory": 64 * 1024**3}
    assert timedelta(hours=1) == SETTINGS.queue_limit
