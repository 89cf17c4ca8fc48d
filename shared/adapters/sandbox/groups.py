"""Resource groups of the kernel: one leaf per run, counted from outside, gone with the run.

Three ways, tried in this order by doing each once: the unified tree (v2), one tree per resource
(v1), and none, where per-process limits are all there is. A mounted tree proves nothing: only a
leaf that was made, limited, entered and removed does.
"""

import contextlib
import errno
import hashlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from shared.ports.cluster import Limits

_PERIOD_US: Final = 100_000
_SHARES: Final = 256
_WEIGHT: Final = 25
"""A quarter of the usual: on a busy machine scripts, however many, leave the service its turn."""
_GONE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Counters:
    """What the kernel counted for one leaf; None where it has no such counter."""

    cpu_seconds: float | None
    peak_memory_kb: int | None


class Leaf(Protocol):
    """The group of one run."""

    joins: Sequence[str]
    """Where a process enters it: files that it writes `0` to, or a folder that it is born in."""

    def alarm(self) -> int | None:
        """Return a descriptor that wakes up when memory ran out; None where none is needed."""

    def memory_kills(self) -> int:
        """Return how many processes the kernel killed for lack of memory."""

    def refused_forks(self) -> int:
        """Return how often the process limit said no."""

    def counters(self) -> Counters:
        """Return what was used; whole once everything in it is dead."""

    def members(self) -> list[int]:
        """Return the processes in it."""

    def kill(self, *, keep: int = -1) -> None:
        """Kill whatever is in it now, but not the process `keep`: it reaps what dies."""

    def remove(self) -> bool:
        """Remove it; False while the kernel still holds it, so try again."""


class Groups(Protocol):
    """Where leaves come from."""

    kind: str
    """`cgroup v2`, `cgroup v1` or `none`; shown in the isolation report."""
    layers: Mapping[str, str]
    """Memory, processes and cpu share, each with how it is kept."""

    def leaf(self, name: str, limits: Limits, *, processes: int) -> Leaf:
        """Make one. `processes` counts everything in it, ours too.

        Raises:
            OSError: The kernel refused.
        """

    def sweep(self) -> None:
        """Kill and remove what a former process of ours left behind."""

    def close(self) -> None:
        """Remove the parents of all leaves."""


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65536).decode()
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _field(path: str, name: str) -> int:
    """Return one number of a `name number` file, 0 where file or name is missing."""
    try:
        text = _read(path)
    except OSError:
        return 0
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _number(path: str) -> int | None:
    try:
        return int(_read(path))
    except (OSError, ValueError):
        return None


def _kill_all(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids(folder: str) -> list[int]:
    try:
        return [int(line) for line in _read(f"{folder}/cgroup.procs").split()]
    except OSError:
        return []


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)  # noqa: PTH106 - a control group is no folder of files
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _sweep(parent: str) -> None:
    for leaf in _folders(parent):
        _kill_all(_pids(leaf))
        with contextlib.suppress(OSError):
            _removed(leaf)


def _folders(parent: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        return [entry.path for entry in entries if entry.is_dir()]
    return []


# ------------------------------------------------------------------------------------ version 2


class UnifiedLeaf:
    """One folder with everything; the kernel itself kills the whole run for memory."""

    __slots__ = ("_folder", "joins")

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.joins: Sequence[str] = (folder,)

    def alarm(self) -> int | None:
        """Need none: `memory.oom.group` makes a kill take all."""
        return None

    def memory_kills(self) -> int:
        """Read `memory.events`."""
        return _field(f"{self._folder}/memory.events", "oom_kill")

    def refused_forks(self) -> int:
        """Read `pids.events`."""
        return _field(f"{self._folder}/pids.events", "max")

    def counters(self) -> Counters:
        """Read `cpu.stat` and `memory.peak`, which older kernels lack."""
        peak = _number(f"{self._folder}/memory.peak")
        return Counters(
            cpu_seconds=_field(f"{self._folder}/cpu.stat", "usage_usec") / 1e6,
            peak_memory_kb=None if peak is None else peak // 1024,
        )

    def members(self) -> list[int]:
        """Read `cgroup.procs`."""
        return _pids(self._folder)

    def kill(self, *, keep: int = -1) -> None:
        """Let the kernel do it at once where it can; who reaps stands outside of it."""
        try:
            _write(f"{self._folder}/cgroup.kill", "1")
        except OSError:
            _kill_all([pid for pid in self.members() if pid != keep])

    def remove(self) -> bool:
        """Remove the folder."""
        return _removed(self._folder)


class UnifiedGroups:
    """Leaves in the unified tree, below the group that this process was started in."""

    kind = "cgroup v2"

    def __init__(self, own: Path, name: str) -> None:
        """Make the parent and hand it the controllers.

        A group with processes in it cannot hand controllers down, so whoever is in ours moves to a
        leaf beside the parent first.

        Raises:
            OSError: The tree is not ours to change, or lacks a controller.
        """
        available = set(_read(str(own / "cgroup.controllers")).split())
        if not {"memory", "pids"} <= available:
            raise OSError(errno.ENOTSUP, "memory and pids are not among its controllers")
        self._has_cpu = "cpu" in available
        self._wanted = "+memory +pids" + (" +cpu" if self._has_cpu else "")
        self._parent = own / name
        self._parent.mkdir(exist_ok=True)
        self._delegate(own)
        _write(str(self._parent / "cgroup.subtree_control"), self._wanted)
        with contextlib.suppress(OSError):
            _write(str(self._parent / "cpu.weight"), str(_WEIGHT))
        self.layers: Mapping[str, str] = {
            "memory": self.kind,
            "processes": f"{self.kind} and rlimit",
            "cpu": self.kind if self._has_cpu else "none",
        }

    def _delegate(self, own: Path) -> None:
        control = str(own / "cgroup.subtree_control")
        try:
            _write(control, self._wanted)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            service = own / "integr8s-service"
            service.mkdir(exist_ok=True)
            for pid in _pids(str(own)):
                with contextlib.suppress(ProcessLookupError):
                    _write(str(service / "cgroup.procs"), str(pid))
            _write(control, self._wanted)

    def leaf(self, name: str, limits: Limits, *, processes: int) -> UnifiedLeaf:
        """Make a leaf and set its limits."""
        folder = f"{self._parent}/{name}"
        os.mkdir(folder, 0o755)  # noqa: PTH102 - on the path of every run
        try:
            _write(f"{folder}/memory.max", str(limits.memory_bytes))
            with contextlib.suppress(FileNotFoundError):
                _write(f"{folder}/memory.swap.max", "0")
            _write(f"{folder}/memory.oom.group", "1")
            _write(f"{folder}/pids.max", str(processes))
            if self._has_cpu:
                quota = limits.cpu_millicores * _PERIOD_US // 1000
                _write(f"{folder}/cpu.max", f"{quota} {_PERIOD_US}")
        except OSError:
            _removed(folder)
            raise
        return UnifiedLeaf(folder)

    def sweep(self) -> None:
        """Kill and remove the leaves of a former process."""
        _sweep(str(self._parent))

    def close(self) -> None:
        """Remove the parent; it stays while a leaf does, for the next sweep."""
        with contextlib.suppress(OSError):
            _removed(str(self._parent))


# ------------------------------------------------------------------------------------ version 1


class SplitLeaf:
    """One folder per tree; a memory kill takes one process, so somebody has to notice."""

    __slots__ = ("_alarm", "_folders", "_watched", "joins")

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders
        self._alarm = self._watched = -1
        # `tasks` moves one thread, and our process has but one. `cgroup.procs` would be the same,
        # but takes a lock that waits for every processor: 12 ms on an idle machine, against 0.2.
        self.joins: Sequence[str] = tuple(
            f"{folder}/tasks" for folder in dict.fromkeys(folders.values())
        )

    def alarm(self) -> int | None:
        """Ask the kernel to count a descriptor up when the limit is hit: nothing is polled."""
        memory = self._folders["memory"]
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watched = os.open(f"{memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        _write(f"{memory}/cgroup.event_control", f"{self._alarm} {self._watched}")
        return self._alarm

    def memory_kills(self) -> int:
        """Read `memory.oom_control`."""
        return _field(f"{self._folders['memory']}/memory.oom_control", "oom_kill")

    def refused_forks(self) -> int:
        """Read `pids.events`."""
        return _field(f"{self._folders['pids']}/pids.events", "max")

    def counters(self) -> Counters:
        """Read `cpuacct.usage` and `memory.max_usage_in_bytes`."""
        used = _number(f"{self._folders['cpuacct']}/cpuacct.usage")
        peak = _number(f"{self._folders['memory']}/memory.max_usage_in_bytes")
        return Counters(
            cpu_seconds=None if used is None else used / 1e9,
            peak_memory_kb=None if peak is None else peak // 1024,
        )

    def members(self) -> list[int]:
        """Read `cgroup.procs` of the tree that every process joins first."""
        return _pids(self._folders["memory"])

    def kill(self, *, keep: int = -1) -> None:
        """Kill one by one; whoever calls comes again until nobody is left."""
        _kill_all([pid for pid in self.members() if pid != keep])

    def remove(self) -> bool:
        """Remove the folder of every tree."""
        for descriptor in (self._alarm, self._watched):
            if descriptor >= 0:
                os.close(descriptor)
        self._alarm = self._watched = -1
        # A list, not a generator: all of them are tried even if the first is still held.
        return all([_removed(one) for one in dict.fromkeys(self._folders.values())])  # noqa: C419


class SplitGroups:
    """Leaves in the trees of version 1, each below the group that this process is in there."""

    kind = "cgroup v1"
    needed: Final = ("memory", "pids", "cpuacct")

    def __init__(self, own: Mapping[str, Path], name: str) -> None:
        """Make the parents; `own` maps controller to this process's group in its tree.

        Raises:
            OSError: A tree is missing or not ours to change.
        """
        missing = [controller for controller in self.needed if controller not in own]
        if missing:
            raise OSError(errno.ENOTSUP, f"there is no tree for {', '.join(missing)}")
        wanted = [*self.needed, *(["cpu"] if "cpu" in own else [])]
        self._parents = {controller: str(own[controller] / name) for controller in wanted}
        for parent in self._parents.values():
            Path(parent).mkdir(exist_ok=True)
        self._has_cpu = Path(self._parents.get("cpu", "/nowhere"), "cpu.cfs_quota_us").exists()
        if "cpu" in self._parents:
            with contextlib.suppress(OSError):
                _write(f"{self._parents['cpu']}/cpu.shares", str(_SHARES))
        self._has_swap_limit = Path(self._parents["memory"], "memory.memsw.limit_in_bytes").exists()
        self.layers: Mapping[str, str] = {
            "memory": self.kind,
            "processes": f"{self.kind} and rlimit",
            "cpu": self.kind if self._has_cpu else "none",
        }

    def leaf(self, name: str, limits: Limits, *, processes: int) -> SplitLeaf:
        """Make a leaf in every tree and set its limits."""
        folders = {key: f"{parent}/{name}" for key, parent in self._parents.items()}
        made: list[str] = []
        try:
            for folder in dict.fromkeys(folders.values()):
                os.mkdir(folder, 0o755)  # noqa: PTH102 - on the path of every run
                made.append(folder)
            memory, size = folders["memory"], str(limits.memory_bytes)
            _write(f"{memory}/memory.limit_in_bytes", size)
            # Memory and swap together, which must not be below the limit above: hence second.
            if self._has_swap_limit:
                _write(f"{memory}/memory.memsw.limit_in_bytes", size)
            else:
                _write(f"{memory}/memory.swappiness", "0")
            _write(f"{folders['pids']}/pids.max", str(processes))
            if self._has_cpu:
                quota = limits.cpu_millicores * _PERIOD_US // 1000
                _write(f"{folders['cpu']}/cpu.cfs_quota_us", str(quota))
        except OSError:
            for folder in made:
                _removed(folder)
            raise
        return SplitLeaf(folders)

    def sweep(self) -> None:
        """Kill and remove the leaves of a former process, in every tree."""
        for parent in dict.fromkeys(self._parents.values()):
            _sweep(parent)

    def close(self) -> None:
        """Remove the parents; one stays while a leaf does, for the next sweep."""
        for parent in dict.fromkeys(self._parents.values()):
            with contextlib.suppress(OSError):
                _removed(parent)


# ------------------------------------------------------------------------------------------ none


class NoLeaf:
    """Stands where there are no groups: nothing is counted, death of process 1 ends all."""

    __slots__ = ()
    joins: Sequence[str] = ()

    def alarm(self) -> int | None:
        """Have none."""
        return None

    def memory_kills(self) -> int:
        """Count nothing."""
        return 0

    def refused_forks(self) -> int:
        """Count nothing."""
        return 0

    def counters(self) -> Counters:
        """Know nothing."""
        return Counters(cpu_seconds=None, peak_memory_kb=None)

    def members(self) -> list[int]:
        """Know nobody."""
        return []

    def kill(self, *, keep: int = -1) -> None:
        """Leave it to the caller, who knows the outer process."""

    def remove(self) -> bool:
        """Have nothing to remove."""
        return True


class NoGroups:
    """Limits per process only; the sum over a run is not bounded."""

    kind = "none"
    layers: Mapping[str, str] = {
        "memory": "rlimit per process",
        "processes": "rlimit",
        "cpu": "none",
    }

    def leaf(self, name: str, limits: Limits, *, processes: int) -> NoLeaf:
        """Return the leaf that is none."""
        del name, limits, processes
        return NoLeaf()

    def sweep(self) -> None:
        """Have nothing to sweep."""

    def close(self) -> None:
        """Have nothing to remove."""


# --------------------------------------------------------------------------------------- probing


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted tree: where it lies, which of its groups is its root there, what it controls."""

    point: str
    root: str
    controllers: tuple[str, ...]
    """Empty for the unified tree."""


def mounts_of(mountinfo: str) -> Iterator[Mount]:
    """Yield the trees that `/proc/self/mountinfo` names."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:  # noqa: PLR2004 - root and mount point are the 4th and 5th
            continue
        if kind[0] == "cgroup2":
            yield Mount(fields[4], fields[3], ())
        elif kind[0] == "cgroup":
            yield Mount(fields[4], fields[3], tuple(kind[2].split(",")))


def own_groups(mountinfo: str, membership: str) -> tuple[Path | None, dict[str, Path]]:
    """Return this process's group in the unified tree, and per controller in the others.

    `membership` is `/proc/self/cgroup`, whose paths count from the root of each tree, while a
    container may see only a branch of it mounted.
    """
    paths = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    unified: Path | None = None
    split: dict[str, Path] = {}
    for mount in mounts_of(mountinfo):
        for controller in mount.controllers or ("",):
            if controller not in paths:
                continue
            path = paths[controller]
            if mount.root != "/" and path.startswith(mount.root):
                path = path[len(mount.root) :]
            place = Path(mount.point) / path.lstrip("/")
            if controller:
                split.setdefault(controller, place)
            else:
                unified = unified or place
    return unified, split


def name_of(folder: Path) -> str:
    """Return the name of the groups of the service that has this data directory."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return f"integr8s-{digest}"


def remove_all(name: str) -> bool:
    """Kill and remove what a service left behind that was killed; say whether nothing is left.

    Looks where a service would have its groups that was started as this process was: others stay
    until the next start.
    """
    unified, split = _own_groups_here()
    places = {*split.values(), *([] if unified is None else [unified])}
    left = [parent for place in places if (parent := place / name).is_dir()]
    until = time.monotonic() + _GONE_SECONDS
    while left and time.monotonic() < until:
        for parent in left:
            _sweep(str(parent))
            with contextlib.suppress(OSError):
                _removed(str(parent))
        left = [parent for parent in left if parent.is_dir()]
        if left:
            # A process that was killed is in its group until its parent has taken note.
            time.sleep(_LOOK_SECONDS)  # noqa: TID251 - no event loop runs where this is called
    return not left


def _own_groups_here() -> tuple[Path | None, dict[str, Path]]:
    return own_groups(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    )


def tried(groups: Groups) -> Groups:
    """Return groups that were seen to work: a leaf made, limited, read, removed.

    Raises:
        OSError: Something of that was refused.
    """
    groups.sweep()
    leaf = groups.leaf(f"try-{os.getpid()}", Limits(), processes=8)
    leaf.counters()
    leaf.alarm()
    if not leaf.remove():
        raise OSError(errno.EBUSY, "an empty group could not be removed")
    return groups


def choose(name: str) -> tuple[Groups, list[str]]:
    """Return the best groups that work here, and why better ones do not."""
    unified, split = _own_groups_here()
    refusals = []
    if unified is None:
        refusals.append("cgroup v2: not mounted")
    else:
        try:
            return tried(UnifiedGroups(unified, name)), refusals
        except OSError as error:
            refusals.append(f"cgroup v2: {error.strerror} ({unified})")
            with contextlib.suppress(OSError):
                _removed(str(unified / name))
    try:
        return tried(SplitGroups(split, name)), refusals
    except OSError as error:
        refusals.append(f"cgroup v1: {error.strerror}")
    return NoGroups(), refusals
