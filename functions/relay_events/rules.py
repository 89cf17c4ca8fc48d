"""What of an event is stored, what a stream is told, and which events wait for another."""

from datetime import datetime
from typing import Any

import orjson

from shared.domain.times import rfc3339
from shared.events.event import Event
from shared.events.results import ResultStored
from shared.events.topics import Topic

_FOLLOWERS = frozenset({"/integr8s/monitor-pods", "/integr8s/persist-result"})
"""Sources whose every event follows from one that is part of the history too."""


def waits_for(event: Event) -> str | None:
    """Return the id of the event that has to stand before this one in the history."""
    return event.causation_id if event.source in _FOLLOWERS else None


def outputs_before(event: Event) -> int:
    """Return how many output events have to stand before this one."""
    return event.data.output_events if isinstance(event.data, ResultStored) else 0


def is_of_execution(event: Event) -> bool:
    """Say whether the event gets a number in the history of an execution."""
    if event.topic is Topic.USER_EVENTS:
        return False
    return getattr(event.data, "execution_id", None) is not None


def history_document(event: Event, seq: int | None, at: datetime) -> dict[str, Any]:
    """Return the event as the history keeps it."""
    data = event.data.model_dump(mode="json", exclude_none=True)
    document = {
        "event_id": event.id,
        "event_type": event.type,
        "event_version": "1.0",
        "timestamp": event.time,
        "aggregate_id": event.subject,
        "user_id": data.get("user_id"),
        "source": event.source,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "replay_id": event.replay_id,
        "data": data,
        "stored_at": at,
    }
    if seq is not None:
        # Absent, not null, elsewhere: the unique index counts only events of executions.
        document |= {"execution_id": event.subject, "seq": seq}
    return document


def nudge(document: dict[str, Any]) -> tuple[str, bytes]:
    """Return the channel of an execution's streams, and what they are told."""
    event = {
        "event_id": document["event_id"],
        "event_type": document["event_type"],
        "timestamp": rfc3339(document["timestamp"]),
        "execution_id": document["execution_id"],
        "data": document["data"],
    }
    message = orjson.dumps({"seq": document["seq"], "event": event})
    return f"sse:exec:{document['execution_id']}", message


def audit_document(event: Event) -> dict[str, Any] | None:
    """Return the entry of the audit log that a security event becomes, or None for others."""
    if not event.type.startswith(("security.", "user.", "settings.system")):
        return None
    data = event.data.model_dump(mode="json", exclude_none=True)
    return {
        "audit_id": event.id,
        "action": data.get("action") or event.type,
        "actor_id": data.get("actor_id") or data.get("user_id"),
        "target_type": data.get("target_type") or event.type.partition(".")[0],
        "target_id": data.get("target_id") or event.subject,
        "timestamp": event.time,
        "changes": data.get("changes") or {},
        "reason": data.get("reason"),
        "address": data.get("address"),
    }
