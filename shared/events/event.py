"""The envelope of an event, and how one event follows from another.

Attributes and their meaning: CloudEvents 1.0, with the extensions `partitionkey` (partitioning
extension), `traceparent` (distributed tracing extension), and ours: `correlationid` (the request
that began it all), `causationid` (the event that caused this one), `replayid` (only on events that
a replay says again).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from shared.domain.identifiers import derived_id
from shared.domain.tracing import child_traceparent
from shared.events.topics import Topic


class Payload(BaseModel):
    """The data of one type of event. Unknown fields are tolerated on reading, never written."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    TYPE: ClassVar[str]
    TOPIC: ClassVar[Topic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: what happened, to what, when, and what it follows from."""

    id: str
    source: str
    """`/integr8s/{slug}` of whoever says it."""
    subject: str
    """What it is about: an execution, a user, a session; also the record's key."""
    time: datetime
    data: Payload
    correlation_id: str
    traceparent: str
    causation_id: str | None = None
    replay_id: str | None = None

    @property
    def type(self) -> str:
        """Return the CloudEvents type."""
        return self.data.TYPE

    @property
    def topic(self) -> Topic:
        """Return the one topic on which it travels."""
        return self.data.TOPIC

    @property
    def key(self) -> str:
        """Return the partition key: events with one key keep their order."""
        return self.subject

    def then(
        self,
        data: Payload,
        *,
        source: str,
        at: datetime,
        step: str | None = None,
        subject: str | None = None,
    ) -> "Event":
        """Return the event that follows from this one.

        Its id is derived from this one's id, its type and `step`, so handling this event again says
        the same event again, not another. Give a `step` where one event is followed by several of
        a type.
        """
        event_id = derived_id(self.id, f"{source}:{data.TYPE}:{step or ''}")
        return Event(
            id=event_id,
            source=source,
            subject=subject or self.subject,
            time=at,
            data=data,
            correlation_id=self.correlation_id,
            causation_id=self.id,
            traceparent=child_traceparent(self.traceparent, event_id),
        )
