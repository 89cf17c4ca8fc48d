"""The record that an event becomes when it cannot be handled: bytes kept, the failure beside."""

from datetime import datetime

from shared.domain.times import rfc3339
from shared.events.topics import Topic
from shared.ports.event_log import NewRecord, Record

_ERROR_CHARS = 500
ORIGIN = "dlqorigin"
"""Header of a retried record: what it is known by, so that failing again counts on."""
TARGET = "dlqtarget"
"""Header of a retried record: the one function that is to handle it."""


def dead_letter(
    record: Record, error: BaseException, *, function: str, attempts: int, at: datetime
) -> NewRecord:
    """Return the record for the topic of dead letters.

    The headers named `knativeerror...` are those that Knative's own dispatcher adds, so that both
    kinds of dead letters look alike. Messages are cut short: no script or secret belongs here.
    """
    kind = type(error).__name__
    original = tuple(h for h in record.headers if h[0] == ORIGIN or not h[0].startswith("dlq"))
    added = {
        "dlqfunction": function,
        "dlqgroup": function,
        "dlqtopic": record.topic,
        "dlqpartition": str(record.partition),
        "dlqoffset": str(record.offset),
        "dlqattempts": str(attempts),
        "dlqtime": rfc3339(at),
        "dlqerrortype": kind,
        "dlqerror": f"{kind}: {error}"[:_ERROR_CHARS],
        "knativeerrordest": function,
        "knativeerrorcode": "500",
    }
    headers = original + tuple((name, value.encode()) for name, value in added.items())
    return NewRecord(Topic.DEAD_LETTERS, record.key or b"", headers, record.value)


def is_for_another(record: Record, slug: str) -> bool:
    """Say whether a retried record is meant for another function than `slug`."""
    for name, value in record.headers:
        if name == TARGET:
            return value.decode(errors="replace") != slug
    return False
