"""Alarms: how a function sets a timer that outlives it."""

from datetime import datetime

from shared.domain.errors import AlreadyExists
from shared.events.timers import timer
from shared.ports.documents import Documents


async def arm(
    timers: Documents,
    *,
    target: str,
    kind: str,
    key: str,
    due_at: datetime,
    correlation_id: str,
    traceparent: str,
) -> datetime:
    """Have a timer ring by `due_at`; one that rings earlier does as well. Return when it rings.

    Whoever is told has to look whether there is something to do yet.

    Raises:
        TemporaryError: No answer in time; it may or may not be set.
    """
    timer_id, document = timer(
        target=target,
        kind=kind,
        key=key,
        due_at=due_at,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )
    while True:
        try:
            await timers.insert(timer_id, document)
        except AlreadyExists:
            # One with a lease is ringing right now, and goes afterwards unless it is moved.
            moved = await timers.change(
                timer_id,
                when={"$or": [{"due_at": {"$gt": due_at}}, {"lease_until": {"$exists": True}}]},
                set={"due_at": due_at},
                unset=["lease_until"],
            )
            there = moved or await timers.get(timer_id)
            if there is not None:
                rings_at: datetime = there["due_at"]
                return rings_at
        else:
            return due_at
