"""Saying stored events again: the commands, and how far it is."""

from typing import Any, ClassVar

from shared.events.event import Payload
from shared.events.topics import Topic


class _ReplayCommand(Payload):
    """Who wants what of a session."""

    TOPIC: ClassVar[Topic] = Topic.REPLAY_COMMANDS

    session_id: str
    actor_id: str


class ReplayRequested(_ReplayCommand):
    """A session is to start."""

    TYPE: ClassVar[str] = "replay.requested"

    config: dict[str, Any]


class ReplayPaused(_ReplayCommand):
    """A session is to pause."""

    TYPE: ClassVar[str] = "replay.paused"

    reason: str | None = None


class ReplayResumed(_ReplayCommand):
    """A session is to go on."""

    TYPE: ClassVar[str] = "replay.resumed"

    reason: str | None = None


class ReplayCancelled(_ReplayCommand):
    """A session is to end."""

    TYPE: ClassVar[str] = "replay.cancelled"

    reason: str | None = None


class _ReplayProgress(Payload):
    """How far a session is."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    session_id: str
    replay_id: str
    total: int
    replayed: int
    failed: int
    skipped: int
    error: str | None = None


class ReplayStarted(_ReplayProgress):
    """It has begun."""

    TYPE: ClassVar[str] = "replay.started"


class ReplayProgressed(_ReplayProgress):
    """It has come further."""

    TYPE: ClassVar[str] = "replay.progressed"


class ReplayCompleted(_ReplayProgress):
    """Everything was said again."""

    TYPE: ClassVar[str] = "replay.completed"


class ReplayFailed(_ReplayProgress):
    """It ended early."""

    TYPE: ClassVar[str] = "replay.failed"
