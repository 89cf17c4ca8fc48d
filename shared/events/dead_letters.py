"""What becomes of events that could not be handled."""

from datetime import datetime
from typing import ClassVar

from shared.events.event import Payload
from shared.events.topics import Topic


class _DeadLetter(Payload):
    """Which event, whose failure, why."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    dead_letter_id: str
    original_event_id: str
    original_topic: str
    original_type: str
    function: str
    error_type: str
    error: str
    attempt: int
    failed_at: datetime


class DeadLetterReceived(_DeadLetter):
    """An event could not be handled and is kept."""

    TYPE: ClassVar[str] = "dlq.received"


class DeadLetterRetried(_DeadLetter):
    """It was sent to its topic again, for the function that failed."""

    TYPE: ClassVar[str] = "dlq.retried"

    retry_topic: str


class DeadLetterParked(_DeadLetter):
    """Its attempts are used up; it waits for a person."""

    TYPE: ClassVar[str] = "dlq.parked"

    next_step: str


class DeadLetterDiscarded(_DeadLetter):
    """Somebody, or a policy, gave it up."""

    TYPE: ClassVar[str] = "dlq.discarded"

    reason: str
    actor_id: str | None = None
