"""What is stored of an execution at its end."""

from typing import Any, ClassVar, Literal

from shared.events.event import Payload
from shared.events.topics import Topic


class ResultStored(Payload):
    """The terminal state and the result are stored: the last word of an execution's stream."""

    TYPE: ClassVar[str] = "result_stored"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_RESULTS

    execution_id: str
    user_id: str
    status: str
    storage_type: Literal["database"] = "database"
    storage_path: str
    size_bytes: int
    result: dict[str, Any]
    """The whole result object, as the HTTP API shows it."""
    output_events: int = 0
    """How many `execution.output` belong before this in the history."""


class ResultFailed(Payload):
    """A terminal fact could not be stored."""

    TYPE: ClassVar[str] = "result_failed"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_RESULTS

    execution_id: str
    user_id: str | None = None
    storage_type: Literal["database"] = "database"
    error_code: str
    error: str
