"""From what a cluster shows to facts. Nothing here remembers more than one pod's own story."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.domain.results import text_of
from shared.events.event import Payload
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionOutput,
    ExecutionStarted,
    ExecutionTimeout,
    ResourceUsage,
)
from shared.events.pods import ContainerStatus, PodCreated, PodRunning, PodScheduled, PodTerminated
from shared.ports.cluster import Captured, Cause, Pod, PodEnd, PodOutput, PodPhase, Stream, Usage
from shared.ports.verdicts import Verdict, verdict

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Story:
    """What was said of one pod so far, and the bytes that wait for the rest of their character."""

    execution: Mapping[str, Any]
    said: set[str] = field(default_factory=set)
    carry: dict[Stream, tuple[int, bytes]] = field(default_factory=dict)
    outputs: int = 0


Facts = list[tuple[str, Payload]]
"""Payloads, each with the step that makes its event's id."""


def facts_of(pod: Pod, story: Story) -> Facts:
    """Return what a pod's state says that was not said yet, in the order in which it happened."""
    facts: Facts = []
    who = _who(pod, story)
    image = story.execution["limits"]["image"]
    _add(facts, story, "created", PodCreated(**who, image=image))
    if pod.node_name is not None:
        _add(facts, story, "scheduled", PodScheduled(**who, node_name=pod.node_name))
    ran = pod.phase is PodPhase.RUNNING or (pod.end is not None and pod.end.started)
    if ran and pod.started_at is not None:
        running = ContainerStatus(name="script", ready=True, restart_count=0, state="running")
        _add(facts, story, "running", PodRunning(**who, container_statuses=(running,)))
        started = ExecutionStarted(**who, node_name=pod.node_name, started_at=pod.started_at)
        _add(facts, story, "started", started)
    if pod.end is not None:
        facts += flushed(story)
        _add(facts, story, "ended", _terminal(pod, pod.end, story))
        _add(facts, story, "terminated", _terminated(pod.end, who))
    return facts


def has_news_of_the_end(pod: Pod, story: Story) -> bool:
    """Say whether the pod has ended and nobody was told yet."""
    return pod.end is not None and "ended" not in story.said


def without_output(fact: Payload) -> Payload:
    """Return a terminal fact as if all of its output had been cut; any other fact as it is."""
    if "stdout_truncated" not in type(fact).model_fields:
        return fact
    cut = {
        name: value
        for stream in ("stdout", "stderr")
        for name, value in (
            (stream, ""),
            (f"{stream}_base64", None),
            (f"{stream}_truncated", True),
        )
    }
    return fact.model_copy(update=cut)


def output_of(chunk: PodOutput, story: Story) -> Facts:
    """Return a chunk as an event; the bytes of a cut character wait for the next chunk."""
    offset, data = story.carry.pop(chunk.stream, (chunk.offset, b""))
    if offset + len(data) != chunk.offset:
        offset, data = chunk.offset, b""  # the watch began anew
    data += chunk.data
    whole = data if chunk.truncated else data[: len(data) - _cut_character(data)]
    if len(whole) < len(data):
        story.carry[chunk.stream] = (offset + len(whole), data[len(whole) :])
    return _output(story, chunk.stream, offset, whole, truncated=chunk.truncated)


def flushed(story: Story) -> Facts:
    """Return the bytes that wait for the rest of a character which never came."""
    facts: Facts = []
    for stream, (offset, data) in sorted(story.carry.items()):
        facts += _output(story, stream, offset, data, truncated=False)
    story.carry.clear()
    return facts


def with_output(end: PodEnd, told: Sequence[Mapping[str, Any]]) -> PodEnd:
    """Return an end with the output that output events tell of, up to the first gap of a stream."""
    kept: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for output in sorted(told, key=lambda output: int(output["offset"])):
        data = output["data"]
        chunk = base64.b64decode(data) if output["encoding"] == "base64" else data.encode()
        if output["offset"] == len(kept[output["stream"]]):
            kept[output["stream"]] += chunk
    return replace(
        end,
        stdout=Captured(kept["stdout"], len(kept["stdout"])),
        stderr=Captured(kept["stderr"], len(kept["stderr"])),
    )


def _output(story: Story, stream: Stream, offset: int, data: bytes, *, truncated: bool) -> Facts:
    step = f"{stream}:{offset}"
    if not data or step in story.said:
        return []
    try:
        text, encoding = data.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(data).decode(), "base64"
    story.said.add(step)
    story.outputs += 1
    output = ExecutionOutput(
        execution_id=story.execution["execution_id"],
        user_id=story.execution["user_id"],
        stream=stream,
        offset=offset,
        data=text,
        encoding="utf-8" if encoding == "utf-8" else "base64",
        truncated=truncated,
    )
    return [(step, output)]


def _cut_character(data: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 character that is not whole."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 == 0x80:  # noqa: PLR2004 - a continuation byte, RFC 3629
            continue
        wanted = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1  # noqa: PLR2004
        return back if wanted > back else 0
    return 0


def _add(facts: Facts, story: Story, step: str, payload: Payload) -> None:
    if step not in story.said:
        story.said.add(step)
        facts.append((step, payload))


def _who(pod: Pod, story: Story) -> dict[str, Any]:
    return {
        "execution_id": pod.execution_id,
        "user_id": story.execution["user_id"],
        "pod_name": pod.name,
    }


def _terminated(end: PodEnd, who: dict[str, Any]) -> PodTerminated:
    return PodTerminated(
        **who, exit_code=end.exit_code, reason=end.cause.value, message=end.message or None
    )


def _terminal(pod: Pod, end: PodEnd, story: Story) -> Payload:
    meaning = verdict(end)
    brought = _brought(pod, end, story, meaning)
    execution = story.execution
    if execution.get("cancel_requested_at"):
        return ExecutionCancelled(
            **brought,
            cancelled_by=execution.get("cancelled_by") or execution["user_id"],
            reason=execution.get("cancel_reason"),
            phase="run" if end.started else "launch",
        )
    # Ended on order although nobody cancelled: the saga's deadline was the reason.
    if end.cause in (Cause.DEADLINE, Cause.CANCELLED):
        return ExecutionTimeout(
            **{**brought, "exit_code": -1},
            timeout_seconds=execution["timeout_seconds"],
            error_message=meaning.error_message or "",
        )
    if end.cause is Cause.EXIT:
        return ExecutionCompleted(**brought)
    return ExecutionFailed(
        **brought,
        error_type=meaning.error_type or "system_error",
        error_code=meaning.error_code or "unknown",
        error_message=meaning.error_message or "It failed for a reason that left no trace.",
        phase="run" if end.started else "launch",
    )


def _brought(pod: Pod, end: PodEnd, story: Story, meaning: Verdict) -> dict[str, Any]:
    stdout, stdout_base64 = text_of(end.stdout.kept)
    stderr, stderr_base64 = text_of(end.stderr.kept)
    return {
        "execution_id": pod.execution_id,
        "user_id": story.execution["user_id"],
        "exit_code": meaning.exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "stdout_base64": stdout_base64,
        "stderr_base64": stderr_base64,
        "stdout_truncated": end.stdout.truncated,
        "stderr_truncated": end.stderr.truncated,
        "usage": _usage(end.usage),
        "finished_at": pod.ended_at,
        "output_events": story.outputs,
    }


def _usage(usage: Usage | None) -> ResourceUsage | None:
    if usage is None:
        return None
    cpu = usage.cpu_seconds
    return ResourceUsage(
        execution_time_wall_seconds=round(usage.wall_seconds, 6),
        cpu_time_seconds=None if cpu is None else round(cpu, 6),
        cpu_time_jiffies=None if cpu is None else round(cpu * _TICKS),
        clk_tck_hertz=_TICKS,
        peak_memory_kb=usage.peak_memory_kb,
        source=usage.source,
    )
