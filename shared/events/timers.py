"""Deadlines that outlive every process."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from shared.events.event import Payload
from shared.events.topics import Topic


class TimerDue(Payload):
    """A timer is due. Only the function whose slug is `target` handles it, by its own state."""

    TYPE: ClassVar[str] = "timer.due"
    TOPIC: ClassVar[Topic] = Topic.TIMERS

    timer_id: str
    target: str
    kind: str
    key: str
    due_at: datetime
    payload: dict[str, Any] = Field(default_factory=dict)


def timer(
    *, target: str, kind: str, key: str, due_at: datetime, correlation_id: str, traceparent: str
) -> tuple[str, dict[str, Any]]:
    """Return the id and the document of a timer; one per target, kind and key."""
    timer_id = f"{target}:{kind}:{key}"
    return timer_id, {
        "timer_id": timer_id,
        "due_at": due_at,
        "target": target,
        "kind": kind,
        "key": key,
        "correlation_id": correlation_id,
        "traceparent": traceparent,
    }
