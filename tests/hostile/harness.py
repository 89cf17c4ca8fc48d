"""What the tests of the sandbox share: a started cluster, a watch that remembers, a footprint."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from shared.adapters.sandbox.groups import own_groups
from shared.adapters.sandbox.probe import Layer
from shared.domain.runtimes import LANGUAGES
from shared.ports.cluster import Cluster, Limits, Pod, PodEnd, PodOutput, PodSpec, Runtime

MIB = 1024 * 1024
NO_GRACE = timedelta(0)
SLOTS = 16
BASE_UID = 200_000 + os.getpid() % 10_000 * SLOTS
"""Of this test process alone, so that suites that run side by side do not count each other."""

_PODS = ("/kubelet/", "/containerd/", "/netns/")
"""Parts of the paths at which a kubelet and its runtime mount things, at any moment."""

needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap (bwrap) is not installed"
)


class SystemClock:
    """The machine's own clock: these tests run real processes."""

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.fromtimestamp(time.time(), tz=UTC)

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, duration: timedelta) -> None:
        """Wait."""
        await pause(duration.total_seconds())


class CountedIds:
    """Ids that a failing test can be read by."""

    def __init__(self) -> None:
        """Start at one."""
        self._numbers = count(1)

    def new(self) -> str:
        """Return the next."""
        return f"id-{next(self._numbers)}"


async def pause(seconds: float) -> None:
    """Let the loop go on for a while; for polling, never for hoping."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


async def until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until something holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not is_so():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        await pause(0.005)


def spec(
    name: str,
    script: str | bytes,
    *,
    language: str = "python",
    version: str = "3.11",
    seconds: float = 10.0,
    limits: Limits | None = None,
    **more: Any,
) -> PodSpec:
    """Return a spec as the registry would have it."""
    known = LANGUAGES[language]
    environment = known.environment_of_run()
    return PodSpec(
        name=f"exec-{name}",
        execution_id=name,
        saga_id="saga",
        user_id="user",
        runtime=Runtime(
            language=language,
            version=version,
            image=known.image.format(version=version),
            command=known.command,
            filename=known.filename,
            environment=environment,
        ),
        script=script.encode() if isinstance(script, str) else script,
        timeout=timedelta(seconds=seconds),
        limits=limits or Limits(),
        **more,
    )


@dataclass
class Seen:
    """Everything that a watch said about one pod, in its order."""

    items: list[Pod | PodOutput] = field(default_factory=list)

    @property
    def ends(self) -> list[PodEnd]:
        """Every end that was said."""
        return [
            item.end
            for item in self.items
            if isinstance(item, Pod) and item.end is not None and not item.deleted
        ]

    @property
    def end(self) -> PodEnd:
        """The one end; it is an error to have another number of them."""
        (end,) = self.ends
        return end

    @property
    def last(self) -> Pod:
        """The state that was said last."""
        return [item for item in self.items if isinstance(item, Pod)][-1]

    @property
    def chunks(self) -> list[PodOutput]:
        """All live output."""
        return [item for item in self.items if isinstance(item, PodOutput)]

    def live(self, stream: str) -> bytes:
        """Return the live output of one stream, whose offsets must have no gap."""
        text = b""
        for chunk in self.chunks:
            if chunk.stream == stream:
                assert chunk.offset == len(text)
                text += chunk.data
        return text

    def is_over(self) -> bool:
        """Say whether an end was said."""
        return bool(self.ends)


class Watch:
    """A watch that runs beside the test and remembers."""

    def __init__(self, cluster: Cluster, *, pace: float = 1.0) -> None:
        """Begin to watch; `pace` is how much longer everything may take than in a sandbox."""
        self.pods: dict[str, Seen] = {}
        self.pace = pace
        self._cluster = cluster
        self._task = asyncio.create_task(self._follow(cluster))

    def another(self) -> "Watch":
        """Begin one more."""
        return Watch(self._cluster, pace=self.pace)

    async def _follow(self, cluster: Cluster) -> None:
        async for item in cluster.watch():
            self.pods.setdefault(item.name, Seen()).items.append(item)

    def is_over(self) -> bool:
        """Say whether it has ended, which by itself it never does."""
        return self._task.done()

    def of(self, name: str) -> Seen:
        """Return what was said about a pod so far."""
        return self.pods.setdefault(name if name.startswith("exec-") else f"exec-{name}", Seen())

    async def ended(self, name: str, seconds: float = 15.0) -> Seen:
        """Wait for the end of a pod."""
        seen = self.of(name)
        await self.until(seen.is_over, seconds, f"{name} ended")
        return seen

    async def until(self, is_so: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until something holds, for so long as it takes here."""
        if self._task.done():
            self._task.result()
        await until(is_so, seconds * self.pace, what)

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.wait([self._task])


async def run(cluster: Cluster, watch: Watch, one: PodSpec, seconds: float = 20.0) -> Seen:
    """Create a pod and wait for its end."""
    await cluster.create(one)
    return await watch.ended(one.name, seconds)


@asynccontextmanager
async def sandbox(
    *,
    without: Collection[Layer] = (),
    folders: Sequence[str] | None = ("/usr/bin",),
    ledger: MemoryLedger | None = None,
    **more: Any,
) -> AsyncIterator[SandboxCluster]:
    """Start a sandbox cluster of its own, and see that it leaves nothing behind."""
    with tempfile.TemporaryDirectory() as data:
        cluster = SandboxCluster(
            folder=Path(data),
            ledger=ledger or MemoryLedger(),
            clock=SystemClock(),
            ids=CountedIds(),
            interpreter_folders=folders,
            without=without,
            is_probed=not without,
            allow_weak_limits=Layer.GROUPS in without,
            slots=SLOTS,
            base_uid=BASE_UID,
            **more,
        )
        await cluster.start()
        try:
            yield cluster
        finally:
            await cluster.stop()


@dataclass(frozen=True)
class Footprint:
    """What a run may leave on a machine."""

    processes: int
    mounts: int
    groups: int
    descriptors: int


def footprint() -> Footprint:
    """Count what exists now: processes of ours or of our slots, mounts, leaves, descriptors."""
    return Footprint(
        processes=_processes(),
        mounts=_mounts(),
        groups=len(leaves(os.getpid())),
        descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    )


def _mounts() -> int:
    """Count what is mounted, but for the pods of a cluster on the same machine."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return sum(not any(part in point for part in _PODS) for point in points)


def _processes() -> int:
    found = 0
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            try:
                status = Path(f"/proc/{name}/status").read_text()
            except OSError:
                continue
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            uid = int(fields["Uid"].split()[0])
            is_child = fields["PPid"] == str(os.getpid())
            found += is_child or BASE_UID <= uid < BASE_UID + SLOTS
    return found


def leaves(pid: int) -> list[Path]:
    """Return the groups that a process made for runs, and that are still there."""
    unified, split = own_groups(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    )
    places = {*split.values(), *([unified] if unified else [])}
    return [leaf for place in places for leaf in _groups_of(place, f"run-{pid}-")]


def _groups_of(place: Path, prefix: str) -> list[Path]:
    """Return the groups of all systems on this machine; others may come and go meanwhile."""
    found = []
    for parent in place.glob("integr8s-*"):
        with contextlib.suppress(FileNotFoundError):
            found += [leaf for leaf in parent.iterdir() if leaf.name.startswith(prefix)]
    return found


def words(text: bytes) -> Mapping[str, str]:
    """Read lines such as `refused ptrace EPERM` and `OPEN mount`: probe -> first word."""
    found = {}
    for line in text.decode(errors="replace").splitlines():
        verdict, _, rest = line.partition(" ")
        found[rest.split(" ")[0]] = verdict
    return found
