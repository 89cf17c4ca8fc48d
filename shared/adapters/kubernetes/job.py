"""What process 1 of a pod is told: one file of words, in the order in which entry.c reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from shared.domain.errors import PermanentError
from shared.ports.cluster import Limits, PodSpec

SCRATCH_BYTES: Final = 10 * 1024 * 1024
"""Size of `/output` and of `/dev/shm`; that of `/tmp` is a limit of the run."""

ENTRY: Final = "/entry"
INIT: Final = f"{ENTRY}/init"
JOB: Final = f"{ENTRY}/job"
STDIN: Final = f"{ENTRY}/stdin"
FILTER: Final = f"{ENTRY}/filter"
SCRIPTS: Final = "/scripts"
ORDERS: Final = "/orders"
ORDER: Final = f"{ORDERS}/order"
REPORT: Final = "/dev/termination-log"

_GROUPS: Final = "/sys/fs/cgroup"
_FOLDER: Final = "/tmp"  # noqa: S108 - a path inside the pod, where /tmp is private
_VERSION: Final = "integr8s-job-1"


class Uid(IntEnum):
    """Whether the kernel may count a script's processes by its uid."""

    LOOK = 0
    """Only where process 1 finds itself in a user namespace of its own."""
    OWN = 1
    """No other pod has it."""
    SHARED = 2
    """All pods of a node have it: a limit would be one for all of them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One command with its surroundings."""

    command: Sequence[str]
    environment: Mapping[str, str]
    timeout_ms: int
    limits: Limits
    has_stdin: bool = False
    is_filtered: bool = True
    uid: Uid = Uid.LOOK


@dataclass(frozen=True, slots=True)
class Places:
    """Where process 1 finds and leaves things; the same in every pod, others in its tests."""

    report: str = REPORT
    order: str = ORDER
    stdin: str = STDIN
    filter: str = FILTER
    groups: str = _GROUPS
    folder: str = _FOLDER


def job_of(spec: PodSpec, *, is_filtered: bool, uid: Uid = Uid.LOOK) -> Job:
    """Return the job of a spec.

    Raises:
        PermanentError: A name of a file leads elsewhere.
    """
    runtime = spec.runtime
    names = [runtime.filename, *(name for name, _ in spec.files)]
    odd = [name for name in names if not name or name in {".", ".."} or set(name) & {"/", "\0"}]
    if odd or len(set(names)) < len(names):
        raise PermanentError("The names of its files must be plain and differ.")
    return Job(
        command=(*runtime.command, f"{SCRIPTS}/{runtime.filename}", *spec.args),
        environment={
            **runtime.environment,
            "OUTPUT_PATH": "/output",
            "EXECUTION_ID": spec.execution_id,
        },
        timeout_ms=max(1, round(spec.timeout.total_seconds() * 1000)),
        limits=spec.limits,
        has_stdin=spec.stdin is not None,
        is_filtered=is_filtered,
        uid=uid,
    )


def encoded(job: Job, places: Places = Places()) -> bytes:
    """Return the file; every word ends with a NUL.

    Raises:
        PermanentError: A word holds a NUL itself, or is no text.
    """
    limits = job.limits
    words = [
        _VERSION,
        str(job.timeout_ms),
        str(limits.processes),
        str(int(job.uid)),
        str(limits.open_files),
        str(max(limits.tmp_bytes, SCRATCH_BYTES)),
        str(limits.output_kept_bytes),
        str(limits.output_drained_bytes),
        places.report,
        places.order,
        places.stdin if job.has_stdin else "",
        places.filter if job.is_filtered else "",
        places.groups,
        places.folder,
        str(len(job.environment)),
        *(f"{name}={value}" for name, value in sorted(job.environment.items())),
        "--",
        *job.command,
    ]
    if any("\0" in word for word in words):
        raise PermanentError("Arguments and environment cannot hold a NUL.")
    try:
        return b"".join(word.encode() + b"\0" for word in words)
    except UnicodeEncodeError as error:
        raise PermanentError("Arguments and environment must be text.") from error
