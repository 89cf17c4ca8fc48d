"""What of a terminal fact is stored."""

from typing import Any

import pytest

from functions.persist_result import rules
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionTimeout,
    ResourceUsage,
)
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID, seconds

WHO: dict[str, Any] = {"execution_id": EXECUTION_ID, "user_id": USER_ID}
COMPLETED = ExecutionCompleted(**WHO, exit_code=0, stdout="out")
TIMEOUT = ExecutionTimeout(**WHO, exit_code=-1, timeout_seconds=30)
CANCELLED = ExecutionCancelled(**WHO, cancelled_by="u", phase="run")
REJECTED = ExecutionRejected(**WHO, code="queue_expired", message="It waited.")


def failed(phase: Any = "run", error_type: str = "resource_limit") -> ExecutionFailed:
    """Return a failure."""
    return ExecutionFailed(
        **WHO,
        exit_code=137,
        error_type=error_type,
        error_code="out_of_memory",
        error_message="too much",
        phase=phase,
    )


def state(fact: rules.Terminal, **changes: Any) -> dict[str, Any]:
    """Return what a fact writes into an execution."""
    return rules.terminal_state(fact, builders.execution(**changes), at=START)


@pytest.mark.parametrize(
    ("fact", "status", "error_type", "error_code"),
    [
        pytest.param(COMPLETED, "completed", None, None, id="completed"),
        pytest.param(TIMEOUT, "timeout", "timeout", "deadline", id="timeout"),
        pytest.param(failed(), "failed", "resource_limit", "out_of_memory", id="failed"),
        pytest.param(failed("launch"), "error", "resource_limit", "out_of_memory", id="launch"),
        pytest.param(REJECTED, "error", "system_error", "queue_expired", id="rejected"),
        pytest.param(CANCELLED, "cancelled", None, None, id="cancelled"),
    ],
)
def test_each_fact_has_its_status(
    fact: rules.Terminal, status: str, error_type: str | None, error_code: str | None
) -> None:
    """What failed before the script began, and what was rejected, is an error."""
    found = state(fact)

    assert (found["status"], found["error_type"], found["error_code"]) == (
        status,
        error_type,
        error_code,
    )


@pytest.mark.parametrize("fact", [COMPLETED, TIMEOUT, failed(), failed("launch"), REJECTED])
def test_a_recorded_cancel_wins(fact: rules.Terminal) -> None:
    """With its reason, and no error."""
    found = state(fact, cancel_requested_at=START, cancel_reason="enough")

    assert (found["status"], found["error_type"]) == ("cancelled", None)
    assert found["error_message"] == "Cancelled: enough"


def test_a_cancel_keeps_the_output() -> None:
    """What was printed until then is the user's."""
    assert state(COMPLETED, cancel_requested_at=START)["stdout"] == b"out"


def test_unknown_error_types_become_ours() -> None:
    """The list is closed."""
    assert state(failed(error_type="gremlins"))["error_type"] == "system_error"


def test_exact_bytes_win_over_readable_text() -> None:
    """The text has replacement characters."""
    fact = ExecutionCompleted(**WHO, stdout="\ufffd", stdout_base64="/w==", stderr="é")
    found = state(fact)

    assert (found["stdout"], found["stderr"]) == (b"\xff", "é".encode())


def test_missing_numbers_are_no_obstacle() -> None:
    """A result without usage or end is stored all the same."""
    found = state(COMPLETED)

    assert (found["resource_usage"], found["finished_at"]) == (None, START)


def test_usage_and_end_are_kept() -> None:
    """As the kernel counted them."""
    usage = ResourceUsage(execution_time_wall_seconds=1.5, clk_tck_hertz=100, source="wait4")
    end = START + seconds(5)
    found = state(ExecutionCompleted(**WHO, usage=usage, finished_at=end))

    assert found["resource_usage"]["execution_time_wall_seconds"] == 1.5
    assert found["finished_at"] == end


def test_a_timeout_names_the_limit() -> None:
    """A sentence with the number."""
    assert state(TIMEOUT)["error_message"] == "The script ran into its limit of 30 s."
