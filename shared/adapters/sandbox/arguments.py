"""The command line of a sandbox: a pure function of what is to run and of the machine's view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.ports.cluster import Limits, PodSpec

INNER_UID: Final = 1000
SCRATCH_BYTES: Final = 10 * 1024 * 1024
"""Size of `/output` and of `/dev/shm`; that of `/tmp` is a limit of the run."""
INIT: Final = "/entry/init"
SCRIPTS: Final = "/scripts"

# Where descriptors lie in the process that becomes bubblewrap. The first four stay open.
CONTROL: Final = 3
FILTER: Final = 4
FIRST_FILE: Final = 5

OWN_PROCESSES: Final = 2
"""Bubblewrap and process 1 share the group with the script; its own limit is not theirs."""
_SPARE_PROCESSES: Final = 8
"""The rlimit stands behind the group's limit, so that the group's counter sees the refusals."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of this machine that a script may read, at the same place.

    Where only root can walk to it, `shown_at` is a folder that it is mounted on beforehand.
    """

    path: str
    shown_at: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The read-only part of a sandbox's file system, the same for every run."""

    bubblewrap: str
    init: str
    etc: str
    """A folder of ours that stands for `/etc`."""
    folders: tuple[str, ...] = ("/usr",)
    links: tuple[tuple[str, str], ...] = ()
    """Name and target, such as `/bin` and `usr/bin`."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is run in a sandbox."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: tuple[str, ...]
    """Names under the scripts folder, in the order of their descriptors."""
    timeout_ms: int
    limits: Limits
    binds: tuple[Bind, ...] = ()
    data_bytes: int = 0
    """Data segment of one process, where no group bounds the memory of all; 0 leaves it open."""


def job_of(
    spec: PodSpec,
    *,
    interpreter: Sequence[str],
    folder: str,
    binds: tuple[Bind, ...] = (),
) -> Job:
    """Return the job of a spec; `folder` is where the interpreter lies, for its PATH."""
    environment = {**spec.runtime.environment}
    path = environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    if folder not in path.split(":"):
        path = f"{folder}:{path}"
    environment |= {"PATH": path, "OUTPUT_PATH": "/output", "EXECUTION_ID": spec.execution_id}
    return Job(
        command=(*interpreter, f"{SCRIPTS}/{spec.runtime.filename}", *spec.args),
        environment=environment,
        files=(spec.runtime.filename, *(name for name, _ in spec.files)),
        timeout_ms=max(1, round(spec.timeout.total_seconds() * 1000)),
        limits=spec.limits,
        binds=binds,
    )


def bubblewrap(job: Job, view: View, *, filtered: bool = True, sealed: bool = True) -> list[str]:
    """Return the command line that bubblewrap is given.

    The order matters: later mounts lie on earlier ones, and what is made read-only must be
    complete by then. `filtered` and `sealed` take a layer away, to show that it is missed.
    """
    return [
        view.bubblewrap,
        *("--unshare-all", "--unshare-user", "--disable-userns"),
        *("--die-with-parent", "--new-session"),
        *("--hostname", "sandbox", "--uid", str(INNER_UID), "--gid", str(INNER_UID)),
        *(part for folder in view.folders for part in ("--ro-bind", folder, folder)),
        *(part for name, target in view.links for part in ("--symlink", target, name)),
        *("--ro-bind", view.etc, "/etc", "--ro-bind", view.init, INIT),
        *(part for bind in job.binds for part in _bind(bind)),
        *_files(job.files),
        *("--proc", "/proc", "--dev", "/dev"),
        *_scratch("/tmp", job.limits.tmp_bytes),  # noqa: S108 - private to the sandbox
        *_scratch("/output", SCRATCH_BYTES),
        *_scratch("/dev/shm", SCRATCH_BYTES),  # noqa: S108
        *(("--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/") if sealed else ()),
        *("--chdir", "/tmp"),  # noqa: S108
        *(("--seccomp", str(FILTER)) if filtered else ()),
        *("--as-pid-1", "--", INIT, *init(job)),
    ]


def init(job: Job) -> list[str]:
    """Return the command line of process 1: its numbers, the environment, the script."""
    limits = job.limits
    return [
        "init",
        str(job.timeout_ms),
        str(limits.processes + 1 + (0 if job.data_bytes else _SPARE_PROCESSES)),
        str(limits.open_files),
        str(max(limits.tmp_bytes, SCRATCH_BYTES)),
        str(job.data_bytes),
        str(len(job.environment)),
        *(f"{name}={value}" for name, value in sorted(job.environment.items())),
        *job.command,
    ]


def enter(
    *,
    binary: str,
    parent: int,
    descriptors: Sequence[int],
    uid: int | None,
    groups: Sequence[str],
    binds: Sequence[Bind] = (),
) -> list[str]:
    """Return the words before bubblewrap's own: who spawns, what it keeps, whom it becomes."""
    owner = "-1" if uid is None else str(uid)
    shown = [(bind.path, bind.shown_at) for bind in binds if bind.shown_at is not None]
    return [
        *(binary, "enter", str(parent), ",".join(map(str, descriptors))),
        *(owner, owner, str(len(groups)), *groups),
        *(str(len(shown)), *(part for pair in shown for part in pair), "--"),
    ]


def _bind(bind: Bind) -> tuple[str, str, str]:
    return ("--ro-bind", bind.shown_at or bind.path, bind.path)


def _files(names: Sequence[str]) -> list[str]:
    """Data by descriptor: nothing lies on the host that would have to be cleaned or could show."""
    return [
        part
        for number, name in enumerate(names, start=FIRST_FILE)
        for part in ("--perms", "0444", "--ro-bind-data", str(number), f"{SCRIPTS}/{name}")
    ]


def _scratch(path: str, size: int) -> tuple[str, ...]:
    return ("--size", str(size), "--tmpfs", path)
