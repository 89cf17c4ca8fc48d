"""Where scripts run: one isolated pod per execution, on Kubernetes or on this machine."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use. The effective values are stored with the execution."""

    cpu_millicores: int = 2000
    memory_bytes: int = 512 * 1024 * 1024
    cpu_request_millicores: int = 200
    """What a scheduler sets aside; a cluster of one machine has none."""
    memory_request_bytes: int = 128 * 1024 * 1024
    processes: int = 64
    open_files: int = 512
    tmp_bytes: int = 10 * 1024 * 1024
    output_kept_bytes: int = 512 * 1024
    """Per stream; what comes after is read, counted and dropped."""
    output_drained_bytes: int = 10 * 1024 * 1024
    """Both streams together; beyond it the run is killed as a flood."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One entry of the runtime registry, as a launcher needs it."""

    language: str
    version: str
    image: str
    command: tuple[str, ...]
    """The interpreter with its fixed arguments; the path of the script is appended, then `args`."""
    filename: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSpec:
    """Everything that a launcher needs to run one execution."""

    name: str
    """`exec-{execution_id}`: the name is the idempotency key of `create`."""
    execution_id: str
    saga_id: str
    user_id: str
    runtime: Runtime
    script: bytes
    args: tuple[str, ...] = ()
    stdin: bytes | None = None
    files: Sequence[tuple[str, bytes]] = ()
    timeout: timedelta = timedelta(seconds=30)
    limits: Limits = field(default_factory=Limits)


class PodPhase(StrEnum):
    """How far a pod has come."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


class Cause(StrEnum):
    """Why a run ended, recorded before anything that could blur it. The order is no rule."""

    EXIT = "exit"
    """The script left by itself: `exit_code` is set."""
    SIGNAL = "signal"
    """A signal that none of ours sent: `signal` is set."""
    DEADLINE = "deadline"
    """Its own time limit; noted before TERM was sent."""
    CANCELLED = "cancelled"
    """`delete` was asked for while it ran; noted before TERM was sent."""
    OUT_OF_MEMORY = "out_of_memory"
    PROCESSES = "processes"
    """Ended by a signal after the process limit refused it something."""
    OUTPUT_FLOOD = "output_flood"
    DISK = "disk"
    EVICTED = "evicted"
    IMAGE_PULL = "image_pull"
    CONTAINER_START = "container_start"
    """It never started: set-up was refused."""
    START_DEADLINE = "start_deadline"
    NODE_LOST = "node_lost"
    POD_LOST = "pod_lost"
    """Whoever ran it died, or somebody else removed it."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of the kernel. None means unknown, never zero."""

    wall_seconds: float
    cpu_seconds: float | None
    peak_memory_kb: int | None
    source: Literal["cgroup", "wait4"]
    complete: bool
    """False where children that nobody waited for may be missing (wait4)."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What one stream printed: the first bytes, exact, and how many there were in all."""

    kept: bytes = b""
    total_bytes: int = 0

    @property
    def truncated(self) -> bool:
        """Say whether bytes were dropped."""
        return self.total_bytes > len(self.kept)


@dataclass(frozen=True, slots=True)
class PodEnd:
    """The evidence about an ended run; `shared.ports.verdicts` names what it means."""

    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    """One sentence with the number that was hit and the value it had; empty for an exit."""
    started: bool = True
    usage: Usage | None = None
    stdout: Captured = Captured()
    stderr: Captured = Captured()
    output_chunks: int = 0
    """How many `PodOutput` were said before this, over both streams."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod as the cluster sees it now."""

    name: str
    uid: str
    execution_id: str
    phase: PodPhase
    created_at: datetime
    node_name: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waiting_reason: str | None = None
    end: PodEnd | None = None
    deleted: bool = False
    """True in the last word about it: the object is gone."""


@dataclass(frozen=True, slots=True)
class PodOutput:
    """Live output: bytes of one stream from an offset on, within the kept part."""

    name: str
    uid: str
    execution_id: str
    stream: Stream
    offset: int
    data: bytes
    truncated: bool = False
    """True in the chunk that reaches the kept limit while more was printed."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """Which layers really apply on this cluster; shown by `doctor` and readiness."""

    launcher: str
    layers: Mapping[str, str]
    """Layer -> how it is kept, e.g. `memory` -> `cgroup v1`; `none` where it is not."""


class Cluster(Protocol):
    """Run pods: create and delete by name, watch what becomes of them."""

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist. Idempotent by name, also after it ended and after a restart.

        A name that was deleted is used up as long as the cluster runs: making it again is success
        and makes nothing, so that a create which comes late makes no second pod.

        Once this returned, the pod is known to `watch` and `list` until `delete`, even if this
        process is killed: a run that dies with its launcher shows as ended, `POD_LOST`, and is
        never started again.

        Raises:
            TemporaryError: No capacity or no answer; try again.
            PermanentError: It can never be made here.
        """

    async def delete(self, name: str, *, grace: timedelta, cancel: bool = False) -> None:
        """Remove the pod; a missing one is success. Returns once it is gone, or going.

        A running script gets TERM, then KILL after `grace`. With `cancel` a running one is ended
        and reported (`CANCELLED`) but kept, with its output, until a delete without `cancel`.

        Raises:
            TemporaryError: No answer; try again.
        """

    async def list(self) -> Sequence[Pod]:
        """Return every pod of ours, ended ones included."""

    async def sweep(self, older_than: timedelta) -> Sequence[str]:
        """Remove what a `create` that was cut short left without a pod; return the names.

        Raises:
            TemporaryError: No answer; try again.
        """

    def watch(self) -> AsyncIterator[Pod | PodOutput]:
        """Yield each pod as it is now, then every change and all live output, at least once.

        Promised per pod: output in order of offset within a stream, all of it before the `Pod`
        whose phase is `ENDED`; a `Pod` with `deleted` last. Not promised: order across pods, or
        that a state which lasted a moment is seen. The first byte is said at once, later ones are
        gathered for 100 ms or 16 KiB, at most ten chunks a second per pod.

        A watch that starts anew says every pod again from the first byte on.
        """

    async def isolation(self) -> Isolation:
        """Return which layers hold; the same answer that the start-up probe found."""
