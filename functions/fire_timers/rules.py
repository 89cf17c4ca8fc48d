"""The event that a due timer becomes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.domain.identifiers import derived_id
from shared.domain.times import rfc3339
from shared.domain.tracing import child_traceparent
from shared.events.event import Event
from shared.events.timers import TimerDue


def due_event(timer: Mapping[str, Any], *, source: str, at: datetime) -> Event:
    """Return the event of a timer; a timer at one instant is one event, even if fired twice."""
    event_id = derived_id(timer["timer_id"], rfc3339(timer["due_at"]))
    return Event(
        id=event_id,
        source=source,
        subject=timer["key"],
        time=at,
        data=TimerDue(
            timer_id=timer["timer_id"],
            target=timer["target"],
            kind=timer["kind"],
            key=timer["key"],
            due_at=timer["due_at"],
        ),
        correlation_id=timer["correlation_id"],
        traceparent=child_traceparent(timer["traceparent"], event_id),
    )
