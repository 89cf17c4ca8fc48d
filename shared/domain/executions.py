"""The life of an execution: its states, its priorities, its place in the queue."""

from datetime import datetime, timedelta
from enum import StrEnum


class Status(StrEnum):
    """`queued -> scheduled -> launching -> running ->` one of the terminal ones."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    LAUNCHING = "launching"
    RUNNING = "running"
    COMPLETED = "completed"
    """The script ended by itself, whatever its exit code."""
    FAILED = "failed"
    """Something killed it, or the cluster failed."""
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ERROR = "error"
    """Refused after acceptance, or never launched."""


TERMINAL = frozenset(
    {Status.COMPLETED, Status.FAILED, Status.TIMEOUT, Status.CANCELLED, Status.ERROR}
)
ACTIVE = frozenset(Status) - TERMINAL
NOT_TERMINAL = {"$in": sorted(ACTIVE)}
"""The filter on `status` under which a first terminal state may be written."""


class ErrorType(StrEnum):
    """Who is to blame when an execution did not end by itself."""

    SYSTEM_ERROR = "system_error"
    TIMEOUT = "timeout"
    RESOURCE_LIMIT = "resource_limit"
    SCRIPT_ERROR = "script_error"


class Priority(StrEnum):
    """How an execution stands in the queue beside others of the same age."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    BACKGROUND = "background"


PRIVILEGED = frozenset({Priority.CRITICAL, Priority.HIGH})
"""Priorities that need the role admin or a grant."""

_OFFSET = {
    Priority.CRITICAL: timedelta(minutes=-10),
    Priority.HIGH: timedelta(minutes=-2),
    Priority.NORMAL: timedelta(0),
    Priority.LOW: timedelta(minutes=2),
    Priority.BACKGROUND: timedelta(minutes=10),
}


def rank(accepted_at: datetime, priority: Priority) -> datetime:
    """Return the instant by which the queue is ordered, the earliest first.

    It ages by itself: an old low one stands before a new high one, so nobody starves and no job
    has to raise priorities.
    """
    return accepted_at + _OFFSET[priority]


QUEUE_LENGTH = 10_000
QUEUED_PER_USER = 100
QUEUE_LIMIT = timedelta(hours=1)
"""How long an execution may wait for a slot before it ends in `error`, code `queue_expired`."""
SLACK = timedelta(seconds=45)
"""Every execution is forced to a terminal fact at acceptance + queue limit + timeout + this."""
