"""Evidence about an ended run, and what it means."""

import pytest

from shared.domain.executions import ErrorType, Status
from shared.ports.cluster import Cause, PodEnd
from shared.ports.verdicts import Verdict, verdict

_RESOURCE = ErrorType.RESOURCE_LIMIT
_SYSTEM = ErrorType.SYSTEM_ERROR


@pytest.mark.parametrize(
    ("end", "status", "error_type", "error_code", "exit_code"),
    [
        pytest.param(PodEnd(Cause.EXIT, exit_code=0), "completed", None, None, 0, id="clean"),
        pytest.param(PodEnd(Cause.EXIT, exit_code=3), "completed", None, None, 3, id="own-code"),
        pytest.param(PodEnd(Cause.EXIT, exit_code=137), "completed", None, None, 137, id="own-137"),
        pytest.param(
            PodEnd(Cause.CANCELLED, signal=15), "cancelled", None, None, None, id="cancel"
        ),
        pytest.param(
            PodEnd(Cause.OUT_OF_MEMORY, signal=9),
            *("failed", _RESOURCE, "out_of_memory", 137),
            id="memory",
        ),
        pytest.param(
            PodEnd(Cause.OUT_OF_MEMORY, exit_code=0),
            *("failed", _RESOURCE, "out_of_memory", 137),
            id="memory-of-a-child",
        ),
        pytest.param(
            PodEnd(Cause.DEADLINE, signal=9),
            *("timeout", ErrorType.TIMEOUT, "deadline", -1),
            id="deadline",
        ),
        pytest.param(
            PodEnd(Cause.DEADLINE, exit_code=0),
            *("timeout", ErrorType.TIMEOUT, "deadline", -1),
            id="deadline-caught",
        ),
        pytest.param(PodEnd(Cause.DISK), "failed", _RESOURCE, "disk", None, id="disk"),
        pytest.param(PodEnd(Cause.EVICTED), "failed", _RESOURCE, "evicted", None, id="evicted"),
        pytest.param(
            PodEnd(Cause.OUTPUT_FLOOD, signal=9),
            *("failed", _RESOURCE, "output_flood", 137),
            id="flood",
        ),
        pytest.param(
            PodEnd(Cause.PROCESSES, signal=6),
            *("failed", _RESOURCE, "processes", 134),
            id="processes",
        ),
        pytest.param(
            PodEnd(Cause.SIGNAL, signal=11),
            *("failed", ErrorType.SCRIPT_ERROR, "signal", 139),
            id="signal",
        ),
        pytest.param(PodEnd(Cause.IMAGE_PULL), "error", _SYSTEM, "image_pull", None, id="image"),
        pytest.param(
            PodEnd(Cause.CONTAINER_START), "error", _SYSTEM, "container_start", None, id="set-up"
        ),
        pytest.param(
            PodEnd(Cause.START_DEADLINE), "error", _SYSTEM, "start_deadline", None, id="too-late"
        ),
        pytest.param(PodEnd(Cause.NODE_LOST), "failed", _SYSTEM, "node_lost", None, id="node"),
        pytest.param(PodEnd(Cause.POD_LOST), "failed", _SYSTEM, "pod_lost", None, id="pod"),
        pytest.param(PodEnd(Cause.UNKNOWN), "failed", _SYSTEM, "unknown", None, id="unknown"),
    ],
)
def test_evidence_is_named(
    end: PodEnd,
    status: str,
    error_type: ErrorType | None,
    error_code: str | None,
    exit_code: int | None,
) -> None:
    """Every row of the table, from the evidence to the public words."""
    found = verdict(end)

    assert found.status == Status(status)
    assert found.error_type == error_type
    assert found.error_code == error_code
    assert found.exit_code == exit_code


@pytest.mark.parametrize("cause", sorted(set(Cause) - {Cause.EXIT, Cause.CANCELLED}))
def test_failure_has_a_sentence(cause: Cause) -> None:
    """Nobody is told that something failed without being told what."""
    assert verdict(PodEnd(cause)).error_message


def test_sentence_of_the_launcher_wins() -> None:
    """The launcher knows the number that was hit."""
    end = PodEnd(Cause.DEADLINE, message="It ran longer than its limit of 2 s.")

    assert verdict(end).error_message == "It ran longer than its limit of 2 s."


def test_success_has_no_sentence() -> None:
    """A script that left by itself has failed nobody."""
    assert verdict(PodEnd(Cause.EXIT, exit_code=1)) == Verdict(Status.COMPLETED, exit_code=1)
