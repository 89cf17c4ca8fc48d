"""What a result means to a shell and to a person."""

from typing import Any

import pytest

from gateway.cli.verdict import exit_code_of, seconds, sentence_of, size


@pytest.mark.parametrize(
    ("result", "code"),
    [
        pytest.param({"status": "completed", "exit_code": 0}, 0, id="success"),
        pytest.param({"status": "completed", "exit_code": 3}, 3, id="own code"),
        pytest.param({"status": "timeout", "exit_code": -1}, 124, id="timeout"),
        pytest.param({"status": "cancelled", "exit_code": 143}, 125, id="cancelled"),
        pytest.param({"status": "error", "error_code": "queue_expired"}, 126, id="expired"),
        pytest.param({"status": "error", "error_code": "cannot_launch"}, 127, id="no launch"),
        pytest.param(
            {"status": "failed", "error_type": "resource_limit", "exit_code": 137}, 137, id="memory"
        ),
        pytest.param(
            {"status": "failed", "error_type": "system_error", "exit_code": 0}, 127, id="system"
        ),
        pytest.param({"status": "failed", "exit_code": None}, 127, id="no code"),
        pytest.param({"status": "failed", "exit_code": -1}, 127, id="code that is none"),
    ],
)
def test_exit_code(result: dict[str, Any], code: int) -> None:
    """The script's own where it has one; else a number that stands for the end."""
    assert exit_code_of(result) == code


def test_sentence_names_end_and_usage() -> None:
    """One line for the last glance."""
    usage = {"execution_time_wall_seconds": 0.0304, "cpu_time_seconds": 1.5, "peak_memory_kb": 9216}

    sentence = sentence_of({"status": "completed", "exit_code": 0, "resource_usage": usage})

    assert sentence == "completed, exit code 0, 30 ms wall, 1.50 s cpu, 9.0 MiB memory"


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (
            {"status": "failed", "error_code": "out_of_memory", "error_message": "Over 512Mi."},
            "failed (out_of_memory): Over 512Mi",
        ),
        ({"status": "cancelled", "error_message": "Cancelled: enough"}, "cancelled: enough"),
        ({"status": "cancelled", "error_message": "Cancelled on request."}, "cancelled on request"),
        (
            {"status": "completed", "exit_code": 1, "stderr_truncated": True},
            "completed, exit code 1, stderr truncated",
        ),
    ],
    ids=["failed", "cancelled with a reason", "cancelled", "truncated"],
)
def test_sentence_says_why(result: dict[str, Any], sentence: str) -> None:
    """In the words of the API, without saying anything twice."""
    assert sentence_of(result) == sentence


def test_units_fit_the_value() -> None:
    """Nobody counts zeros."""
    assert [seconds(0.0004), seconds(0.25), seconds(2.5)] == ["0 ms", "250 ms", "2.50 s"]
    assert [size(5), size(2048), size(3 * 1024**3)] == ["5 B", "2.0 KiB", "3.0 GiB"]
