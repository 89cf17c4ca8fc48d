"""What the guardian of an execution says of its steps."""

from datetime import datetime
from typing import ClassVar, Literal

from shared.events.event import Payload
from shared.events.topics import Topic


class _Saga(Payload):
    """What every word of a saga has."""

    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    saga_id: str
    saga_name: str = "execution_saga"
    execution_id: str
    user_id: str


class SagaStarted(_Saga):
    """A saga guards an execution from now on."""

    TYPE: ClassVar[str] = "saga.started"

    initial_event_id: str


class SagaStepCompleted(_Saga):
    """A step is done."""

    TYPE: ClassVar[str] = "saga.step_completed"

    step: str
    duration_seconds: float
    next_step: str | None = None


class SagaCompensating(_Saga):
    """What a step did is being undone."""

    TYPE: ClassVar[str] = "saga.compensating"

    compensating_step: str
    cause: str


class SagaCompleted(_Saga):
    """Every step is done and cleaned up after."""

    TYPE: ClassVar[str] = "saga.completed"

    completed_steps: tuple[str, ...]


class SagaFailed(_Saga):
    """A step failed or did not happen in time; what was done is undone."""

    TYPE: ClassVar[str] = "saga.failed"

    failed_step: str
    state: Literal["failed", "timeout"]
    error: str
    compensated_steps: tuple[str, ...] = ()


class SagaCancelled(_Saga):
    """Its execution was cancelled."""

    TYPE: ClassVar[str] = "saga.cancelled"

    reason: str | None = None
    cancelled_by: str | None = None
    cancelled_at: datetime
    completed_steps: tuple[str, ...] = ()
    compensated_steps: tuple[str, ...] = ()
