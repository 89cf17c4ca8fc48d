"""Events that follow from an execution's own document, whoever says them and whatever woke them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.domain.identifiers import derived_id
from shared.domain.tracing import child_traceparent
from shared.events.event import Event, Payload


def origin_id(execution_id: str, source: str, event_type: str, step: str = "") -> str:
    """Return the id of an event that an execution has once per source, type and step."""
    return derived_id(execution_id, f"{source}:{event_type}:{step}")


def of_execution(
    execution: Mapping[str, Any],
    data: Payload,
    *,
    source: str,
    at: datetime,
    step: str = "",
    causation_id: str | None = None,
) -> Event:
    """Return an event about an execution, in the trace and under the request that began it.

    The id depends on nothing but the execution, the source, the type and the step: saying it again
    after a crash, or out of another cause, is saying the same event.
    """
    event_id = origin_id(execution["execution_id"], source, data.TYPE, step)
    return Event(
        id=event_id,
        source=source,
        subject=execution["execution_id"],
        time=at,
        data=data,
        correlation_id=execution["correlation_id"],
        causation_id=causation_id,
        traceparent=child_traceparent(execution["traceparent"], event_id),
    )


def order_of(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for, as `execution.requested` and its followers carry it."""
    limits = execution["limits"]
    return {
        "execution_id": execution["execution_id"],
        "user_id": execution["user_id"],
        "script": execution["script"],
        "lang": execution["lang"],
        "lang_version": execution["lang_version"],
        "runtime_image": limits["image"],
        "runtime_command": tuple(limits["command"]),
        "runtime_filename": limits["filename"],
        "args": tuple(execution["args"]),
        "inputs": {
            "stdin_bytes": len(execution.get("stdin") or b""),
            "files": [
                {"name": one["name"], "size": one["size"], "sha256": one["sha256"]}
                for one in execution["files"]
            ],
        },
        "timeout_seconds": execution["timeout_seconds"],
        "cpu_limit": limits["cpu_limit"],
        "memory_limit": limits["memory_limit"],
        "cpu_request": limits["cpu_request"],
        "memory_request": limits["memory_request"],
        "priority": execution["priority"],
        "accepted_at": execution["accepted_at"],
        "retry_of": execution.get("retry_of"),
    }
