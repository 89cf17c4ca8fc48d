"""What a pod's object, the report of its process 1 and its output come to. Nothing here waits."""

import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.frames import Used
from shared.adapters.kubernetes.report import Report, parsed
from shared.ports.cluster import Captured, Cause, Pod, PodEnd, PodPhase, Stream, Usage

_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
_IMAGE_PATIENCE: Final = timedelta(seconds=60)
_START_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_START_PATIENCE: Final = timedelta(seconds=30)
_NOT_RUN: Final = frozenset({"StartError", "ContainerCannotRun"})
"""A container that ended with one of these never ran its program."""
_NODE_REASONS: Final = frozenset(
    {"NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "NodeAffinity"}
)
_NODE_DISRUPTIONS: Final = frozenset(
    {"DeletionByTaintManager", "DeletionByPodGC", "PreemptionByScheduler", "TerminationByKubelet"}
)
_REFUSED: Final = 125
"""Exit code of process 1 where its job was no job; a script has no say in it."""
_OUT_OF_MEMORY: Final = "OOMKilled"
_MESSAGE_CHARS: Final = 500

Manifest = Mapping[str, Any]


@dataclass(slots=True)
class Output:
    """What a run's log has told so far."""

    kept: dict[Stream, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    chunks: int = 0
    started_at: datetime | None = None
    used: Used | None = None


# ------------------------------------------------------------------------------ what is to be seen


def name_of(pod: Manifest) -> str:
    """Return a pod's name."""
    return str(pod["metadata"]["name"])


def uid_of(pod: Manifest) -> str:
    """Return the id of this one object, which no other of the same name has."""
    return str(pod["metadata"]["uid"])


def execution_id_of(pod: Manifest) -> str:
    """Return whose pod it is."""
    return str(pod["metadata"].get("labels", {}).get("execution-id", ""))


def has_ended(pod: Manifest) -> bool:
    """Say whether the cluster has seen the end of it."""
    return pod["status"].get("phase") in {"Succeeded", "Failed"} or bool(_terminated(pod))


def is_over(pod: Manifest) -> bool:
    """Say whether nothing will run in it any more, or not for long."""
    return has_ended(pod) or is_going(pod)


def has_begun(pod: Manifest) -> bool:
    """Say whether process 1 runs, or ran; whether it started the script is its own to say."""
    terminated = _terminated(pod)
    if terminated:
        return terminated.get("reason") not in _NOT_RUN and bool(terminated.get("startedAt"))
    return bool(_state(pod).get("running"))


def is_going(pod: Manifest) -> bool:
    """Say whether somebody has deleted it, so that it will not start any more."""
    return "deletionTimestamp" in pod["metadata"]


def is_cancelled(pod: Manifest) -> bool:
    """Say whether a cancel was ordered."""
    return _order(pod) == "cancel"


def is_explained(pod: Manifest) -> bool:
    """Say whether the cluster has told by now why process 1 was asked to end."""
    return is_over(pod) or bool(_order(pod))


def report_of(pod: Manifest) -> Report | None:
    """Return the report in the termination log, None where there is none that counts."""
    message = _terminated(pod).get("message", "")
    return parsed(message, objects.mark_of(pod)) if message else None


def waiting_reason(pod: Manifest) -> str | None:
    """Return why it does not run yet, as the cluster words it."""
    waiting = _state(pod).get("waiting")
    if waiting:
        return str(waiting.get("reason", "")) or None
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("reason", "")) or None
    return None


def waiting_message(pod: Manifest) -> str:
    """Return in one sentence why it does not run."""
    waiting = _state(pod).get("waiting", {})
    told = f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")
    return told[:_MESSAGE_CHARS]


def patience(pod: Manifest) -> timedelta | None:
    """Return how long what it waits for is waited for; None where nothing is wrong yet."""
    reason = waiting_reason(pod)
    if reason == "InvalidImageName":
        return timedelta(0)
    if reason in _IMAGE_REASONS:
        return _IMAGE_PATIENCE
    return _START_PATIENCE if reason in _START_REASONS else None


def pod_of(
    pod: Manifest,
    phase: PodPhase,
    *,
    end: PodEnd | None = None,
    report: Report | None = None,
    output: Output | None = None,
    now: datetime | None = None,
) -> Pod:
    """Return a pod in the words of the port."""
    started_at, ended_at = _times(pod, report, output)
    return Pod(
        name=name_of(pod),
        uid=uid_of(pod),
        execution_id=execution_id_of(pod),
        phase=phase,
        created_at=_instant(pod["metadata"]["creationTimestamp"]),
        node_name=pod["spec"].get("nodeName"),
        started_at=started_at if phase is not PodPhase.PENDING else None,
        ended_at=(ended_at or now) if phase is PodPhase.ENDED else None,
        waiting_reason=waiting_reason(pod) if phase is PodPhase.PENDING else None,
        end=end,
    )


def listed(pod: Manifest) -> Pod:
    """Return a pod as its object alone shows it: without output, which only a watch reads."""
    report = report_of(pod)
    ended = has_ended(pod)
    if ended or (is_going(pod) and not pod["spec"].get("nodeName")):
        end = end_of(pod, report, None)
        return pod_of(pod, PodPhase.ENDED, end=end, report=report)
    return pod_of(pod, PodPhase.RUNNING if has_begun(pod) else PodPhase.PENDING)


# ------------------------------------------------------------------------------- what it comes to


def end_before_start(pod: Manifest, waited: timedelta) -> PodEnd | None:
    """Return the end of a pod that will not start any more, None while it still may.

    Args:
        pod: Its object; its process 1 has not begun.
        waited: For how long it has been waiting for the same kind of thing.
    """
    allowed = patience(pod)
    if has_ended(pod):
        return _unreported(pod, None)
    if is_going(pod) and not pod["spec"].get("nodeName"):
        return _removed(pod, started=False)
    if allowed is not None and waited >= allowed:
        return _stuck(pod)
    return None


def end_of(pod: Manifest, report: Report | None, output: Output | None) -> PodEnd:
    """Return the evidence about an ended run.

    What process 1 noted before it acted is final, wherever it is read. Where it noted nothing, or
    only that it was asked to end, the cluster's own words say why.
    """
    if report is None:
        return _unreported(pod, output)
    cause, message = _reported(pod, report)
    end = PodEnd(cause, message=message, started=report.started) if cause else None
    end = end or _unexplained(pod, started=report.started)
    if report.started and os.WIFEXITED(report.status):
        end = replace(end, exit_code=os.WEXITSTATUS(report.status))
    elif report.started:
        end = replace(end, signal=os.WTERMSIG(report.status))
    return _with_output(end, pod, report, output)


def lost(pod: Manifest, output: Output) -> PodEnd:
    """Return the end of a pod whose object went away before its end was seen."""
    end = _removed(pod, started=_has_started(pod, output))
    return _with_output(end, pod, None, output)


def abandoned(pod: Manifest, output: Output) -> PodEnd:
    """Return the end of a pod that was deleted, and whose node never said that it is over."""
    started = _has_started(pod, output)
    end = PodEnd(Cause.NODE_LOST, message="Its node did not say that it ended.", started=started)
    if is_cancelled(pod):
        end = _removed(pod, started=started)
    return _with_output(end, pod, None, output)


def _reported(pod: Manifest, report: Report) -> tuple[Cause | None, str]:
    """Return the cause that process 1's own word names, narrowest first; None for none of its."""
    limits = objects.limits_of(pod)
    if report.cause == "cancel":
        begun = "while it ran" if report.started else "before it had started"
        return Cause.CANCELLED, f"It was cancelled {begun}."
    if report.cause == "memory" or report.memory_kills:
        return Cause.OUT_OF_MEMORY, _memory_message(limits, report.peak_kb)
    if report.cause == "deadline":
        seconds = limits.get("timeout_ms", 0) / 1000
        return Cause.DEADLINE, f"It ran longer than its limit of {seconds:g} s."
    if report.cause == "flood":
        return Cause.OUTPUT_FLOOD, (
            f"It printed more than its limit of {limits.get('output_drained_bytes', 0)} bytes "
            f"({report.stdout_total + report.stderr_total} were read)."
        )
    if report.cause == "processes":
        return Cause.PROCESSES, (
            f"It had more than its limit of {limits.get('processes', 0)} processes "
            f"({report.tasks} were counted)."
        )
    if report.cause != "none":
        return None, ""
    if not report.started:
        return Cause.CONTAINER_START, (
            f"Its interpreter could not be started: {os.strerror(report.error)}."
        )
    return _left(report, limits)


def _left(report: Report, limits: Mapping[str, int]) -> tuple[Cause, str]:
    """Name the end of a script that nobody ended."""
    if not os.WIFSIGNALED(report.status):
        return Cause.EXIT, ""
    number = os.WTERMSIG(report.status)
    by = f"ended by signal {number} ({_signal_name(number)})"
    if report.refused_forks:
        return Cause.PROCESSES, (
            f"It reached its limit of {limits.get('processes', 0)} processes, was refused "
            f"{report.refused_forks} more and was {by}."
        )
    return Cause.SIGNAL, f"It was {by}."


def _unreported(pod: Manifest, output: Output | None) -> PodEnd:
    """Name the end of a run whose process 1 did not live to tell it, or never did."""
    end = _unexplained(pod, started=_has_started(pod, output))
    return _with_output(end, pod, None, output)


def _has_started(pod: Manifest, output: Output | None) -> bool:
    """Say whether the script was started. Where nobody can tell any more it is taken to have."""
    if output is not None and output.started_at is not None:
        return True
    return has_begun(pod) and _terminated(pod).get("exitCode") != _REFUSED


def _unexplained(pod: Manifest, *, started: bool) -> PodEnd:
    """Name an end by the cluster's own words, tried from the top."""
    reason, message = _words(pod)
    if is_cancelled(pod):
        begun = "while it ran" if started else "before it had started"
        return PodEnd(Cause.CANCELLED, message=f"It was cancelled {begun}.", started=started)
    if _terminated(pod).get("reason") == _OUT_OF_MEMORY:
        told = _memory_message(objects.limits_of(pod), None)
        return PodEnd(Cause.OUT_OF_MEMORY, message=told, started=started)
    if reason == "DeadlineExceeded":
        return _late(pod, started=started)
    if reason == "Evicted":
        return PodEnd(_evicted(message), message=message[:_MESSAGE_CHARS], started=started)
    if reason in _NODE_REASONS or _disruption(pod) in _NODE_DISRUPTIONS:
        why = _disruption(pod) or reason
        told = f"Its node gave it up ({why}): {message}".removesuffix(": ")
        return PodEnd(Cause.NODE_LOST, message=told[:_MESSAGE_CHARS], started=started)
    if is_going(pod) or _order(pod):
        return _removed(pod, started=started)
    if not started:
        told = message or _terminated(pod).get("message", "") or reason
        told = f"Its container could not be started: {told or 'no reason was given'}"
        return PodEnd(Cause.CONTAINER_START, message=told[:_MESSAGE_CHARS], started=False)
    return PodEnd(Cause.UNKNOWN, message="Its process 1 left no report.", started=started)


def _removed(pod: Manifest, *, started: bool) -> PodEnd:
    if is_cancelled(pod):
        begun = "while it ran" if started else "before it had started"
        return PodEnd(Cause.CANCELLED, message=f"It was cancelled {begun}.", started=started)
    return PodEnd(Cause.POD_LOST, message="It was removed before its end.", started=started)


def _late(pod: Manifest, *, started: bool) -> PodEnd:
    seconds = pod["spec"].get("activeDeadlineSeconds", 0)
    if started:
        return PodEnd(
            Cause.DEADLINE, message=f"Its pod was older than {seconds} s, which no run may take."
        )
    return PodEnd(
        Cause.START_DEADLINE,
        message=f"It had not started when its pod was {seconds} s old.",
        started=False,
    )


def _evicted(message: str) -> Cause:
    """Tell a script that filled its disk from a node that ran short."""
    names_limit = "exceeds the" in message or "exceeded its" in message
    names_disk = "ephemeral" in message or "EmptyDir" in message
    return Cause.DISK if names_limit and names_disk else Cause.EVICTED


def _stuck(pod: Manifest) -> PodEnd:
    cause = Cause.CONTAINER_START if waiting_reason(pod) in _START_REASONS else Cause.IMAGE_PULL
    return PodEnd(cause, message=waiting_message(pod), started=False)


def _with_output(
    end: PodEnd, pod: Manifest, report: Report | None, output: Output | None
) -> PodEnd:
    told = output or Output()
    totals = {
        "stdout": report.stdout_total if report else 0,
        "stderr": report.stderr_total if report else 0,
    }

    def captured(stream: Stream) -> Captured:
        kept = bytes(told.kept[stream])
        return Captured(kept, max(totals[stream], len(kept)))

    return replace(
        end,
        usage=_usage(pod, report, told) if end.started else None,
        stdout=captured("stdout"),
        stderr=captured("stderr"),
        output_chunks=told.chunks,
    )


def _usage(pod: Manifest, report: Report | None, output: Output) -> Usage | None:
    if report is not None:
        return Usage(
            wall_seconds=report.wall_seconds,
            cpu_seconds=None if report.cpu_ns is None else report.cpu_ns / 1e9,
            peak_memory_kb=report.peak_kb,
            source="cgroup" if report.from_group else "wait4",
            complete=report.from_group,
        )
    begun, ended = _times(pod, None, output)
    if begun is None or ended is None:
        return None
    used = output.used or Used(None, None)
    return Usage(
        wall_seconds=max(0.0, (ended - begun).total_seconds()),
        cpu_seconds=None if used.cpu_ns is None else used.cpu_ns / 1e9,
        peak_memory_kb=used.peak_kb,
        source="cgroup",
        complete=False,
    )


# ----------------------------------------------------------------------------------------- details


def _times(
    pod: Manifest, report: Report | None, output: Output | None
) -> tuple[datetime | None, datetime | None]:
    """Return when it began and ended; others than process 1 know it to the second."""
    if report is not None and report.started:
        return report.started_at, report.started_at + timedelta(seconds=report.wall_seconds)
    terminated = _terminated(pod)
    told = terminated.get("startedAt") or _state(pod).get("running", {}).get("startedAt")
    begun = output.started_at if output is not None else None
    if begun is None and told:
        begun = _instant(told)
    finished = terminated.get("finishedAt")
    ended = _instant(finished) if finished else None
    return begun, max(ended, begun) if ended and begun else ended


def _order(pod: Manifest) -> str:
    order = str(pod["metadata"].get("annotations", {}).get(objects.ORDER, ""))
    return order.partition(" ")[0]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _container(pod: Manifest) -> Mapping[str, Any]:
    for status in pod["status"].get("containerStatuses", ()):
        if status["name"] == objects.CONTAINER:
            found: Mapping[str, Any] = status
            return found
    return {}


def _state(pod: Manifest) -> Mapping[str, Any]:
    state: Mapping[str, Any] = _container(pod).get("state", {})
    return state


def _terminated(pod: Manifest) -> Mapping[str, Any]:
    terminated: Mapping[str, Any] = _state(pod).get("terminated", {})
    return terminated


def _words(pod: Manifest) -> tuple[str, str]:
    status = pod["status"]
    return str(status.get("reason", "")), str(status.get("message", "")).strip()


def _disruption(pod: Manifest) -> str:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return str(condition.get("reason", ""))
    return ""


def _memory_message(limits: Mapping[str, int], peak_kb: int | None) -> str:
    seen = "" if peak_kb is None else f" (its peak was {peak_kb} KiB)"
    return f"It used up its memory limit of {limits.get('memory_bytes', 0) // 1024} KiB{seen}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def milliseconds(duration: timedelta) -> int:
    """Return a duration as orders carry it, never shorter."""
    return math.ceil(duration / timedelta(milliseconds=1))
