"""What happens to an execution, from the request to its end."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.events.event import Payload
from shared.events.topics import Topic

Phase = Literal["queued", "launch", "run"]


class ResourceUsage(BaseModel):
    """Counters of the kernel, and where they come from."""

    model_config = ConfigDict(frozen=True)

    execution_time_wall_seconds: float
    cpu_time_seconds: float | None = None
    cpu_time_jiffies: int | None = None
    clk_tck_hertz: int
    peak_memory_kb: int | None = None
    source: Literal["cgroup", "wait4"]


class InputFile(BaseModel):
    """A file that lies beside the script; its content stays in the execution's document."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str


class Inputs(BaseModel):
    """What a script is given, in sizes."""

    model_config = ConfigDict(frozen=True)

    stdin_bytes: int = 0
    files: tuple[InputFile, ...] = ()


class Order(Payload):
    """What was asked for; part of the request, of the task, and of a relaunch."""

    execution_id: str
    user_id: str
    script: str
    lang: str
    lang_version: str
    runtime_image: str
    runtime_command: tuple[str, ...]
    runtime_filename: str
    args: tuple[str, ...] = ()
    inputs: Inputs = Inputs()
    timeout_seconds: int
    cpu_limit: str
    memory_limit: str
    cpu_request: str
    memory_request: str
    priority: str
    accepted_at: datetime
    retry_of: str | None = None


class ExecutionSubmit(Payload):
    """Another system asks for an execution; the data is the body of an HTTP submit."""

    model_config = ConfigDict(extra="allow")

    TYPE: ClassVar[str] = "execution.submit"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_SUBMISSIONS


class ExecutionRequested(Order):
    """An execution was accepted and is stored."""

    TYPE: ClassVar[str] = "execution.requested"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS


class ExecutionScheduled(Order):
    """A slot was granted: work for the launcher."""

    TYPE: ClassVar[str] = "execution.scheduled"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_TASKS

    pool: str
    scheduled_at: datetime


class ExecutionQueued(Payload):
    """Where it stands in the queue; position 0 means that a slot was granted."""

    TYPE: ClassVar[str] = "execution.queued"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    execution_id: str
    user_id: str
    position: int
    estimated_wait_seconds: float | None = None
    priority: str
    queue_depth: int


class ExecutionRejected(Payload):
    """It will not run: refused at submit, or stale in the queue."""

    TYPE: ClassVar[str] = "execution.rejected"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    execution_id: str | None = None
    user_id: str | None = None
    code: str
    message: str
    limit: int | None = None
    current: int | None = None


class ExecutionStarted(Payload):
    """The script itself has started."""

    TYPE: ClassVar[str] = "execution.started"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    execution_id: str
    user_id: str
    pod_name: str
    node_name: str | None = None
    container_id: str | None = None
    started_at: datetime


class ExecutionOutput(Payload):
    """Some bytes that the script printed, from an offset of its stream on."""

    TYPE: ClassVar[str] = "execution.output"
    TOPIC: ClassVar[Topic] = Topic.POD_EVENTS

    execution_id: str
    user_id: str
    stream: Literal["stdout", "stderr"]
    offset: int
    data: str
    encoding: Literal["utf-8", "base64"]
    truncated: bool = False


class _Ended(Payload):
    """What an end brings along: the output that was kept, and the usage."""

    execution_id: str
    user_id: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_base64: str | None = None
    """Only where the bytes are not valid UTF-8; the text then has replacement characters."""
    stderr_base64: str | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    usage: ResourceUsage | None = None
    finished_at: datetime | None = None
    output_events: int = 0
    """How many `execution.output` came before."""


class ExecutionCompleted(_Ended):
    """The script ended by itself, whatever its exit code."""

    TYPE: ClassVar[str] = "execution.completed"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS


class ExecutionFailed(_Ended):
    """Something killed it, or it could not be run."""

    TYPE: ClassVar[str] = "execution.failed"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    error_type: str
    error_code: str
    error_message: str
    phase: Literal["launch", "run"]


class ExecutionTimeout(_Ended):
    """Its own deadline passed."""

    TYPE: ClassVar[str] = "execution.timeout"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    timeout_seconds: int
    error_message: str = ""


class ExecutionCancelRequested(Payload):
    """Somebody asked for its end; from now on every end is stored as cancelled."""

    TYPE: ClassVar[str] = "execution.cancel_requested"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    execution_id: str
    user_id: str
    cancelled_by: str
    reason: str | None = None
    force: bool = False


class ExecutionCancelled(_Ended):
    """It was ended because somebody asked."""

    TYPE: ClassVar[str] = "execution.cancelled"
    TOPIC: ClassVar[Topic] = Topic.EXECUTION_EVENTS

    cancelled_by: str
    reason: str | None = None
    forced: bool = False
    phase: Phase
