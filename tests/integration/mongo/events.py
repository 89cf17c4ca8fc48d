"""Events to emit, many and different."""

from datetime import UTC, datetime, timedelta

from shared.domain.identifiers import derived_id
from shared.events.event import Event
from shared.events.executions import ExecutionCancelRequested

SAID_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def event(number: int, subject: str = "e1") -> Event:
    """Return one event of many."""
    return Event(
        id=derived_id(subject, str(number)),
        source="/integr8s/gateway",
        subject=subject,
        time=SAID_AT + timedelta(milliseconds=number),
        data=ExecutionCancelRequested(
            execution_id=subject, user_id="u1", cancelled_by="u1", reason=f"wörd {number}"
        ),
        correlation_id="c1",
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    )
