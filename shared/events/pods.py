"""What the launcher is told to do with pods, and what became of them."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.events.event import Payload
from shared.events.executions import Order
from shared.events.topics import Topic

DeleteReason = Literal["finished", "cancelled", "deadline", "failed", "orphan"]


class PodCreate(Order):
    """Launch again what was never launched: a relaunch ordered by the saga."""

    TYPE: ClassVar[str] = "pod.create"
    TOPIC: ClassVar[Topic] = Topic.SAGA_COMMANDS

    saga_id: str
    pool: str
    scheduled_at: datetime
    attempt: int


class PodDelete(Payload):
    """Remove a pod."""

    TYPE: ClassVar[str] = "pod.delete"
    TOPIC: ClassVar[Topic] = Topic.SAGA_COMMANDS

    saga_id: str
    execution_id: str
    user_id: str
    pod_name: str
    namespace: str = ""
    reason: DeleteReason
    grace_seconds: float


class PodCreated(Payload):
    """The pod exists."""

    TYPE: ClassVar[str] = "pod.created"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    namespace: str = ""
    image: str


class PodScheduled(Payload):
    """The pod has a node."""

    TYPE: ClassVar[str] = "pod.scheduled"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    node_name: str


class ContainerStatus(BaseModel):
    """One container of a running pod."""

    model_config = ConfigDict(frozen=True)

    name: str
    ready: bool
    restart_count: int
    state: str


class PodRunning(Payload):
    """The pod's main container runs."""

    TYPE: ClassVar[str] = "pod.running"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodTerminated(Payload):
    """The pod has ended."""

    TYPE: ClassVar[str] = "pod.terminated"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None


class PodDeleted(Payload):
    """The pod is gone."""

    TYPE: ClassVar[str] = "pod.deleted"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    reason: str
