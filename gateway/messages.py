"""What a stream says: events of an execution as messages of Server-Sent Events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.answers import dumps
from shared.domain.executions import TERMINAL, Status

GROUPS = ("execution", "pod", "result", "output", "saga")
DEFAULT_GROUPS = frozenset(GROUPS) - {"saga"}
RESULTS = frozenset({"result_stored", "result_failed"})
"""The types after which a stream ends."""
HEARTBEAT = b":\n\n"
RETRY = b"retry: 2000\n\n"

_LEADS_TO: Mapping[str, Status] = {
    "execution.requested": Status.QUEUED,
    "pod.created": Status.LAUNCHING,
    "pod.scheduled": Status.LAUNCHING,
    "pod.running": Status.RUNNING,
    "execution.started": Status.RUNNING,
    "execution.completed": Status.COMPLETED,
    "execution.failed": Status.FAILED,
    "execution.timeout": Status.TIMEOUT,
    "execution.cancelled": Status.CANCELLED,
    "execution.rejected": Status.ERROR,
}
_TERMINAL_FACTS = frozenset(name for name, status in _LEADS_TO.items() if status in TERMINAL)
_OUTPUT_FIELDS = ("stream", "offset", "data", "encoding", "truncated")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, encoded once for all clients."""

    seq: int
    group: str
    chunk: bytes
    is_last: bool = False


@dataclass(slots=True)
class Life:
    """What is known of an execution at some point of its history."""

    execution_id: str
    status: str | None = None
    is_cancel_requested: bool = False

    def status_after(self, event_type: str, data: Mapping[str, Any]) -> str | None:
        """Take one event in; return the status that it leads to, None where it leads to none."""
        status = self._status_after(event_type, data)
        if status is not None:
            self.status = status
        return status

    def _status_after(self, event_type: str, data: Mapping[str, Any]) -> str | None:
        if event_type == "execution.queued":
            return Status.SCHEDULED if data.get("position") == 0 else Status.QUEUED
        if event_type == "execution.cancel_requested":
            self.is_cancel_requested = True
            return self.status
        if event_type == "result_stored":
            return data.get("status")
        if event_type == "result_failed":
            return self.status
        if event_type in _TERMINAL_FACTS and self.is_cancel_requested:
            # From the wish on every end is stored as cancelled.
            return Status.CANCELLED
        has_run = data.get("phase") != "launch" or self.status == Status.RUNNING
        if event_type == "execution.failed" and not has_run:
            return Status.ERROR
        return _LEADS_TO.get(event_type)


def group_of(event_type: str) -> str:
    """Return the part of a stream that a type belongs to, as `include` names it."""
    if event_type == "execution.output":
        return "output"
    return "result" if event_type in RESULTS else event_type.partition(".")[0]


def of_event(life: Life, seq: int, event: Mapping[str, Any], *, underscores: bool) -> Message:
    """Return the message of a stored event, or of one that was just told."""
    event_type, data = event["event_type"], event["data"]
    status = life.status_after(event_type, data)
    body: dict[str, Any] = {
        "event_type": spelled(event_type, underscores=underscores),
        "execution_id": life.execution_id,
        "timestamp": event["timestamp"],
        "event_id": event["event_id"],
        "status": status,
        "result": data.get("result") if event_type == "result_stored" else None,
    }
    body.update(_further(event_type, data))
    return Message(seq, group_of(event_type), _chunk(body, str(seq)), event_type in RESULTS)


def _further(event_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if event_type == "execution.output":
        return {"output": {name: data.get(name) for name in _OUTPUT_FIELDS}}
    if event_type == "execution.queued":
        return {"position": data.get("position")}
    if event_type == "result_failed":
        return {"error": data.get("error")}
    if event_type in _TERMINAL_FACTS and event_type != "execution.completed":
        return {"error": _error_text(event_type, data)}
    return {}


def _error_text(event_type: str, data: Mapping[str, Any]) -> str:
    if event_type == "execution.rejected":
        return str(data.get("message") or "The execution was refused.")
    if event_type == "execution.cancelled":
        return str(data.get("reason") or "The execution was cancelled.")
    fallback = "The execution failed."
    if event_type == "execution.timeout":
        fallback = f"The script ran longer than {data.get('timeout_seconds')} s."
    return str(data.get("error_message") or fallback)


def of_status(life: Life, *, at: datetime, position: int | None = None) -> bytes:
    """Return the synthetic message that tells the stored status."""
    body = _body("status", life, at)
    body["status"] = life.status
    if position is not None:
        body["position"] = position
    return _chunk(body, None)


def of_stored_result(life: Life, result: Mapping[str, Any], *, seq: int, at: datetime) -> bytes:
    """Return `result_stored` made from the stored result, where the history does not have it."""
    body = _body("result_stored", life, at)
    body["status"] = result["status"]
    body["result"] = result
    return _chunk(body, f"end:{seq}")


def of_control(name: str, life: Life, *, at: datetime, message_id: str | None = None) -> bytes:
    """Return a named message about the stream itself; `onmessage` never sees it."""
    body = _body(name, life, at)
    body["status"] = life.status
    return b"event: " + name.encode() + b"\n" + _chunk(body, message_id)


def _body(event_type: str, life: Life, at: datetime) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "execution_id": life.execution_id,
        "timestamp": at,
        "event_id": None,
        "status": None,
        "result": None,
    }


def _chunk(body: Mapping[str, Any], message_id: str | None) -> bytes:
    """Return a message on the wire. JSON has no raw line break, so one `data` line holds it."""
    prefix = b"" if message_id is None else b"id: " + message_id.encode() + b"\n"
    return prefix + b"data: " + dumps(body) + b"\n\n"


def spelled(event_type: str, *, underscores: bool) -> str:
    """Return a type as clients are to see it."""
    return event_type.replace(".", "_") if underscores else event_type
