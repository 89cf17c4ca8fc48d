"""Every way in which a pod comes to an end, and what it is called."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.kubernetes import evidence
from shared.adapters.kubernetes.evidence import Output
from shared.adapters.kubernetes.frames import Used
from shared.adapters.kubernetes.report import parsed
from shared.ports.cluster import Captured, Cause, PodEnd, PodPhase
from tests.unit.adapters.kubernetes.manifests import (
    CREATING,
    MARK,
    RUNNING,
    manifest,
    report,
    terminated,
    waiting,
)

SIGKILL, SIGTERM, SIGSEGV = 9, 15, 11


def ended(text: str = "", *, output: Output | None = None, **more: Any) -> PodEnd:
    """Return the end of a pod whose container is over, with a report or without."""
    state = more.pop("state", terminated(message=text))
    pod = manifest(state, **{"phase": "Succeeded", **more})
    return evidence.end_of(pod, evidence.report_of(pod), output)


@pytest.mark.parametrize(
    ("fields", "cause", "words"),
    [
        ({}, Cause.EXIT, ""),
        ({"status": 137 << 8}, Cause.EXIT, ""),
        ({"status": SIGKILL}, Cause.SIGNAL, "signal 9 (SIGKILL)"),
        ({"status": 0x80 | SIGSEGV}, Cause.SIGNAL, "signal 11 (SIGSEGV)"),
        ({"status": SIGKILL, "refused_forks": 3}, Cause.PROCESSES, "was refused 3 more"),
        ({"cause": "processes", "status": SIGKILL, "tasks": 99}, Cause.PROCESSES, "99 were"),
        ({"cause": "deadline", "status": SIGTERM}, Cause.DEADLINE, "limit of 0.4 s"),
        ({"cause": "deadline", "status": 0}, Cause.DEADLINE, "limit of 0.4 s"),
        ({"cause": "flood", "stdout_total": 900, "stderr_total": 200}, Cause.OUTPUT_FLOOD, "1100"),
        ({"cause": "memory", "status": SIGKILL}, Cause.OUT_OF_MEMORY, "64 KiB (its peak was 4096"),
        ({"memory_kills": 1, "status": SIGKILL}, Cause.OUT_OF_MEMORY, "64 KiB"),
        ({"cause": "deadline", "memory_kills": 1}, Cause.OUT_OF_MEMORY, "64 KiB"),
        ({"cause": "cancel", "memory_kills": 1, "status": SIGKILL}, Cause.CANCELLED, "while it"),
        ({"cause": "cancel", "started": 0}, Cause.CANCELLED, "before it had started"),
        ({"started": 0, "error": 2}, Cause.CONTAINER_START, "No such file or directory"),
        ({"cause": "remove", "status": SIGTERM}, Cause.POD_LOST, "removed"),
    ],
)
def test_report_names_the_cause(fields: dict[str, Any], cause: Cause, words: str) -> None:
    """The narrowest one wins, and the sentence has the number that was hit."""
    end = ended(report(**fields), order="remove 0" if fields.get("cause") == "remove" else "")

    assert end.cause is cause
    assert words in end.message
    assert end.started is (fields.get("started") != 0)


@dataclass(frozen=True)
class Row:
    """A pod without a report of its own cause, and what became of it."""

    pod: dict[str, Any]
    cause: Cause
    started: bool = True
    words: str = ""


UNREPORTED = {
    "memory": Row(manifest(terminated("OOMKilled", code=137), phase="Failed"), Cause.OUT_OF_MEMORY),
    "deadline": Row(
        manifest(terminated("Error", code=137), phase="Failed", reason="DeadlineExceeded"),
        Cause.DEADLINE,
        words="360 s",
    ),
    "deadline before start": Row(
        manifest(waiting("ContainerCreating"), phase="Failed", reason="DeadlineExceeded"),
        Cause.START_DEADLINE,
        started=False,
        words="360 s",
    ),
    "volume": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Evicted",
            message='Usage of EmptyDir volume "tmp" exceeds the limit "20Mi". ',
        ),
        Cause.DISK,
        words="20Mi",
    ),
    "disk": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers",
        ),
        Cause.DISK,
    ),
    "disk of the container": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Evicted",
            message='Container script exceeded its local ephemeral storage limit "64Mi". ',
        ),
        Cause.DISK,
    ),
    "node short of disk": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Evicted",
            message="The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi.",
        ),
        Cause.EVICTED,
    ),
    "node short of memory": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Evicted",
            message="The node was low on resource: memory.",
        ),
        Cause.EVICTED,
    ),
    "evicted before start": Row(
        manifest(phase="Failed", reason="Evicted", message="The node had condition: []."),
        Cause.EVICTED,
        started=False,
    ),
    "shutdown": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            reason="Terminated",
            message="Pod was terminated in response to imminent node shutdown.",
        ),
        Cause.NODE_LOST,
        words="imminent node shutdown",
    ),
    "node gone": Row(
        manifest(
            terminated("Error", code=137),
            phase="Failed",
            condition=("DisruptionTarget", "True", "DeletionByPodGC"),
        ),
        Cause.NODE_LOST,
        words="DeletionByPodGC",
    ),
    "no room on the node": Row(
        manifest(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource."),
        Cause.CONTAINER_START,
        started=False,
        words="enough resource",
    ),
    "program cannot be run": Row(
        manifest(
            terminated("StartError", code=128, message="exec: no such file or directory"),
            phase="Failed",
        ),
        Cause.CONTAINER_START,
        started=False,
        words="no such file",
    ),
    "job cannot be read": Row(
        manifest(terminated("Error", code=125), phase="Failed"),
        Cause.CONTAINER_START,
        started=False,
    ),
    "removed by somebody": Row(
        manifest(terminated("Error", code=137), phase="Failed", deleted=True), Cause.POD_LOST
    ),
    "cancelled": Row(
        manifest(terminated("Error", code=137), phase="Failed", order="cancel 2000"),
        Cause.CANCELLED,
        words="while it ran",
    ),
    "cancelled, then out of time": Row(
        manifest(phase="Failed", reason="DeadlineExceeded", order="cancel 0"),
        Cause.CANCELLED,
        started=False,
        words="before it had started",
    ),
    "forged": Row(
        manifest(
            terminated("Error", code=137, message=report().replace(MARK, "f" * 16)), phase="Failed"
        ),
        Cause.UNKNOWN,
        words="no report",
    ),
    "nothing": Row(manifest(terminated("Error", code=137), phase="Failed"), Cause.UNKNOWN),
}


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in UNREPORTED.items()])
def test_cluster_names_the_cause_where_no_report_does(row: Row) -> None:
    """Tried from the top: what somebody ordered, what the kernel did, what the node did."""
    end = evidence.listed(row.pod).end

    assert end is not None
    assert (end.cause, end.started) == (row.cause, row.started)
    assert row.words in end.message
    assert end.message


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"reason": "DeadlineExceeded"}, Cause.DEADLINE),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, Cause.EVICTED),
        ({"deleted": True}, Cause.POD_LOST),
        ({"order": "cancel 1000", "reason": "DeadlineExceeded"}, Cause.CANCELLED),
        ({}, Cause.UNKNOWN),
    ],
)
def test_who_asked_process_1_to_end_is_the_cluster_s_to_say(
    status: dict[str, Any], cause: Cause
) -> None:
    """TERM alone has no reason; usage and totals are process 1's all the same."""
    end = ended(report(cause="asked", status=SIGTERM, stdout_total=7), phase="Failed", **status)

    assert (end.cause, end.started) == (cause, True)
    assert end.usage is not None
    assert end.usage.wall_seconds == 5
    assert end.stdout.total_bytes == 7


def test_report_outweighs_what_came_after_it() -> None:
    """A script that had left by itself is not undone by an eviction of its pod."""
    end = ended(report(status=3 << 8), phase="Failed", reason="Evicted", message="low on memory")

    assert (end.cause, end.exit_code) == (Cause.EXIT, 3)


def test_code_and_signal_are_never_both() -> None:
    """What the kernel says of the script, also where we ended it."""
    left = ended(report(cause="deadline", status=5 << 8))
    killed = ended(report(cause="cancel", status=SIGKILL))

    assert (left.exit_code, left.signal) == (5, None)
    assert (killed.exit_code, killed.signal) == (None, SIGKILL)


def test_usage_is_the_group_s() -> None:
    """With its source and whether all of it is counted."""
    usage = ended(report()).usage

    assert usage is not None
    assert (usage.wall_seconds, usage.cpu_seconds, usage.peak_memory_kb) == (5.0, 1.5, 4096)
    assert (usage.source, usage.complete) == ("cgroup", True)


def test_usage_of_a_group_that_cannot_be_read_is_a_lower_bound() -> None:
    """None means unknown, never zero."""
    usage = ended(report(source="wait4", cpu_ns="-", peak_kb="-")).usage

    assert usage is not None
    assert (usage.cpu_seconds, usage.peak_memory_kb) == (None, None)
    assert (usage.source, usage.complete) == ("wait4", False)


def test_last_sign_of_life_stands_for_a_lost_report() -> None:
    """A container that is killed at once leaves the figures of some seconds before."""
    output = Output(started_at=datetime(2026, 11, 21, 6, 0, 2, 500_000, UTC), used=Used(10**9, 99))
    usage = ended(output=output, state=terminated("OOMKilled"), phase="Failed").usage

    assert usage is not None
    assert (usage.wall_seconds, usage.cpu_seconds, usage.peak_memory_kb) == (6.5, 1.0, 99)
    assert not usage.complete


def test_output_comes_along_with_its_total() -> None:
    """What was cut is known by the report, what is kept by the log."""
    output = Output(chunks=2)
    output.kept["stdout"] += b"hello"
    output.kept["stderr"] += b"oh"
    end = ended(report(stdout_total=100, stderr_total=2, chunks=2), output=output)

    assert (end.stdout, end.stderr) == (Captured(b"hello", 100), Captured(b"oh", 2))
    assert end.stdout.truncated
    assert end.output_chunks == 2


def test_output_of_an_unreported_end_is_what_arrived() -> None:
    """Nobody has counted what came after it."""
    output = Output(chunks=1)
    output.kept["stdout"] += b"hello"

    assert ended(output=output, state=terminated("Error")).stdout == Captured(b"hello", 5)


def test_times_are_process_1_s() -> None:
    """The cluster knows them to the second, and only cuts off."""
    pod = manifest(terminated(message=report()), phase="Succeeded")
    found = evidence.pod_of(
        pod, PodPhase.ENDED, report=parsed(report(started_at_ns=1795240802_250000000), MARK)
    )

    assert found.started_at == datetime(2026, 11, 21, 6, 0, 2, 250_000, UTC)
    assert found.ended_at == found.started_at + timedelta(seconds=5)
    assert found.created_at <= found.started_at


@pytest.mark.parametrize(
    ("reason", "waited", "cause"),
    [
        ("ErrImagePull", 59, None),
        ("ErrImagePull", 60, Cause.IMAGE_PULL),
        ("ImagePullBackOff", 60, Cause.IMAGE_PULL),
        ("ErrImageNeverPull", 60, Cause.IMAGE_PULL),
        ("InvalidImageName", 0, Cause.IMAGE_PULL),
        ("CreateContainerConfigError", 29, None),
        ("CreateContainerConfigError", 30, Cause.CONTAINER_START),
        ("CreateContainerError", 30, Cause.CONTAINER_START),
        ("RunContainerError", 30, Cause.CONTAINER_START),
        ("ContainerCreating", 10_000, None),
        ("PodInitializing", 10_000, None),
    ],
)
def test_waiting_is_an_end_after_some_time(reason: str, waited: int, cause: Cause | None) -> None:
    """How long is a matter of what it waits for; the rest is for whoever guards the run."""
    end = evidence.end_before_start(manifest(waiting(reason)), timedelta(seconds=waited))

    assert (end.cause if end else None) is cause
    assert end is None or (end.message == f"{reason}: why" and not end.started)


def test_pod_that_nobody_took_and_somebody_deleted_is_over() -> None:
    """It has no node that could say so."""
    removed = manifest(node=None, deleted=True)
    cancelled = manifest(node=None, deleted=True, order="cancel 0")
    ends = [evidence.end_before_start(pod, timedelta(0)) for pod in (removed, cancelled)]

    assert [end.cause for end in ends if end] == [Cause.POD_LOST, Cause.CANCELLED]
    assert evidence.listed(cancelled).phase is PodPhase.ENDED


def test_pod_that_a_node_still_ends_is_not_over() -> None:
    """Its process 1 has something to report."""
    assert evidence.end_before_start(manifest(CREATING, deleted=True), timedelta(0)) is None


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (
            manifest(node=None, condition=("PodScheduled", "False", "Unschedulable")),
            "Unschedulable",
        ),
        (manifest(CREATING), "ContainerCreating"),
        (manifest(), None),
    ],
)
def test_what_a_pod_waits_for_is_told(pod: dict[str, Any], reason: str | None) -> None:
    """In the cluster's own words, for whoever gives it up."""
    assert evidence.listed(pod).waiting_reason == reason


def test_listed_pod_shows_its_object() -> None:
    """Names, node and phase; a running one has no end."""
    found = evidence.listed(manifest(RUNNING, phase="Running"))

    assert (found.name, found.uid, found.execution_id) == ("exec-1", "uid-exec-1", "1")
    assert (found.phase, found.node_name, found.end) == (PodPhase.RUNNING, "node1", None)
    assert found.started_at == datetime(2026, 11, 21, 6, 0, 2, tzinfo=UTC)
