"""The `Cluster` port on this one machine: slots, names, watchers, a start-up probe."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from shared.adapters.native import build, seccomp
from shared.adapters.sandbox import arguments, groups, probe, runtimes
from shared.adapters.sandbox.arguments import Bind, Job, View
from shared.adapters.sandbox.capture import Chunk
from shared.adapters.sandbox.groups import Groups, Leaf, NoGroups, NoLeaf
from shared.adapters.sandbox.probe import Layer
from shared.adapters.sandbox.run import Host, Order, Run
from shared.adapters.sandbox.runtimes import Interpreter, Offered
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import (
    Cause,
    Isolation,
    Limits,
    Pod,
    PodEnd,
    PodOutput,
    PodPhase,
    PodSpec,
)
from shared.ports.ids import Ids

_INIT: Final = Path(__file__).with_name("init.c")
_PROBE_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 5.0
_FULL_AGAIN: Final = timedelta(milliseconds=200)
_NAMES_REMEMBERED: Final = 10_000


class Ledger(Protocol):
    """Which pods exist, on a disk: what outlives this process."""

    async def record(self, name: str, entry: dict[str, Any]) -> bool:
        """Store an entry durably; False where the name is there already."""

    async def forget(self, name: str) -> None:
        """Remove an entry; a missing one is success."""

    async def all(self) -> dict[str, dict[str, Any]]:
        """Return every entry by name."""


class MemoryLedger:
    """A ledger that forgets with the process; for tests."""

    def __init__(self) -> None:
        """Start empty."""
        self.entries: dict[str, dict[str, Any]] = {}

    async def record(self, name: str, entry: dict[str, Any]) -> bool:
        """Store it."""
        if name in self.entries:
            return False
        self.entries[name] = entry
        return True

    async def forget(self, name: str) -> None:
        """Remove it."""
        self.entries.pop(name, None)

    async def all(self) -> dict[str, dict[str, Any]]:
        """Return a copy."""
        return dict(self.entries)


class _Entry:
    """One pod: its present state, all that was said of it, and its run while there is one."""

    __slots__ = ("_cluster", "leaving", "log", "pod", "run", "spec")

    def __init__(self, cluster: "SandboxCluster", pod: Pod, spec: PodSpec | None) -> None:
        self._cluster = cluster
        self.spec = spec
        self.pod = pod
        self.log: list[Pod | PodOutput] = [pod]
        self.run: Run | None = None
        self.leaving = False
        """To be removed as soon as it has ended."""

    def say(self, pod: Pod) -> None:
        """Change the state and tell the watchers."""
        self.pod = pod
        self.log.append(pod)
        self._cluster.wake(self)

    def started(self) -> None:
        """Hear that the script runs."""
        now = self._cluster.now()
        self.say(replace(self.pod, phase=PodPhase.RUNNING, started_at=now))

    def printed(self, chunk: Chunk) -> None:
        """Hear live output."""
        pod = self.pod
        self.log.append(
            PodOutput(
                name=pod.name,
                uid=pod.uid,
                execution_id=pod.execution_id,
                stream=chunk.stream,
                offset=chunk.offset,
                data=chunk.data,
                truncated=chunk.truncated,
            )
        )
        self._cluster.wake(self)

    def ended(self, end: PodEnd) -> None:
        """Hear the evidence."""
        self.spec = None
        self.say(replace(self.pod, phase=PodPhase.ENDED, ended_at=self._cluster.now(), end=end))
        if self.leaving:
            self._cluster.remove_later(self)

    def freed(self) -> None:
        """Hear that nothing is left; the slot may be used again."""
        run, self.run = self.run, None
        if run is not None:
            self._cluster.release(run.slot)


class _Watcher:
    """How far one watch has come with each pod, and which pods have news for it."""

    __slots__ = ("closed", "news", "seen", "waiting")

    def __init__(self) -> None:
        self.seen: dict[_Entry, int] = {}
        self.news: dict[_Entry, None] = {}
        self.waiting: asyncio.Future[None] | None = None
        self.closed = False

    def wake(self) -> None:
        """Let it go on, if it waits."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


class SandboxCluster:
    """Runs every pod in a bubblewrap sandbox of its own, spawned from this event loop.

    Must be started, used and stopped in one event loop of a thread that lives as long as the
    service: the kernel kills a sandbox when the thread that spawned it ends.
    """

    def __init__(
        self,
        *,
        folder: Path,
        ledger: Ledger,
        clock: Clock,
        ids: Ids,
        slots: int = 64,
        base_uid: int = 70_000,
        extra_folders: Sequence[str] = (),
        interpreter_folders: Sequence[str] | None = None,
        allow_weak_limits: bool = False,
        without: Collection[Layer] = (),
        is_probed: bool = True,
    ) -> None:
        """Take the plan; nothing is touched before `start`.

        Args:
            folder: The data directory of this system; names its control groups, nothing else.
            ledger: Where it is kept which pods exist.
            clock: Wall time for what is shown.
            ids: Makes the uid of a pod.
            slots: How many sandboxes there may be at once.
            base_uid: As root, slot n runs as this uid plus n. As anybody else it is not used.
            extra_folders: More of this machine that every script may read.
            interpreter_folders: Where to look for interpreters, by default the usual places.
            allow_weak_limits: Go on without control groups, with limits per process only.
            without: Layers to leave out. For tests that show what a layer is good for.
            is_probed: Refuse to start unless a sandbox was seen to hold. Off in the same tests.
        """
        self._folder = folder
        self._ledger = ledger
        self._clock = clock
        self._ids = ids
        self._slots = slots
        self._base_uid = base_uid
        self._extra_folders = tuple(extra_folders)
        self._interpreter_folders = interpreter_folders
        self._allow_weak_limits = allow_weak_limits
        self._without = frozenset(without)
        self._is_probed = is_probed

        self._entries: dict[str, _Entry] = {}
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._recorded: set[str] = set()
        """Names that the ledger has from a `create` of ours that never came to spawn."""
        self._used_up: OrderedDict[str, None] = OrderedDict()
        """Names that were deleted, the newest ones: a late `create` makes no second pod."""
        self._watchers: set[_Watcher] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._free: deque[int] = deque(range(slots))
        self._all_free: asyncio.Future[None] | None = None
        self._leaves = 0
        self._spare: Leaf | None = None
        self._spare_limits = Limits()
        self._groups: Groups = NoGroups()
        self._host: Host | None = None
        self._stands = ""
        """An empty folder, on which a hidden interpreter is mounted out of everybody's sight."""
        self._null = -1
        self._node = os.uname().nodename
        self._isolation = Isolation(launcher="sandbox", layers={})
        self.offered = Offered()
        """The interpreters that were found; known after `start`."""
        self.notes: tuple[str, ...] = ()
        """What start-up found worth saying: groups that do not work, runtimes out of reach."""

    # --------------------------------------------------------------------------------- lifetime

    async def start(self) -> None:
        """Prepare the machine, prove a sandbox, clean up after a killed predecessor.

        Raises:
            StartupError: Something required is missing or does not hold; says the remedy.
        """
        program = shutil.which("bwrap")
        if program is None:
            raise StartupError(
                "bubblewrap is not installed.",
                remedy="Install it, e.g. apt-get install bubblewrap.",
            )
        try:
            await self._prepare(program)
            await self._recall()
        except BaseException:
            self._close()
            raise

    async def stop(self) -> None:
        """End every run as lost, and leave nothing behind. Watches end."""
        for entry in list(self._entries.values()):
            if entry.run is not None:
                entry.run.lose()
        await self._wait_until_free()
        for watcher in self._watchers:
            watcher.closed = True
            watcher.wake()
        if self._removals:
            await asyncio.wait(self._removals)
        self._close()

    async def _prepare(self, program: str) -> None:
        help_text = await asyncio.to_thread(_help_of, program)
        if "--disable-userns" not in help_text:
            raise StartupError(
                "bubblewrap is too old: it lacks --disable-userns.",
                remedy="Update it to 0.8 or newer.",
            )
        place = _public_folder()
        binary = await asyncio.to_thread(build.binary, _INIT, place)
        drops_uid = os.geteuid() == 0
        self.offered = await asyncio.to_thread(
            runtimes.offered,
            folders=self._interpreter_folders,
            drops_uid=drops_uid,
            can_mount=drops_uid and _may_mount(),
        )
        self._choose_groups()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        stand = place / "shown"
        stand.mkdir(mode=0o755, exist_ok=True)
        self._stands = str(stand)
        self._host = host = Host(
            binary=str(binary),
            view=_view(program, str(binary), place, self._extra_folders),
            filter_path=self._filter(place),
            null=self._null,
            base_uid=self._base_uid if drops_uid and Layer.UID not in self._without else None,
            sealed=Layer.SEALS not in self._without,
        )
        self._isolation = self._report(host)
        if self._is_probed:
            await self._prove()

    def _choose_groups(self) -> None:
        refusals: list[str] = []
        if Layer.GROUPS in self._without:
            self._groups = NoGroups()
        else:
            self._groups, refusals = groups.choose(groups.name_of(self._folder))
        self.notes = (*refusals, *self.offered.refusals)
        if isinstance(self._groups, NoGroups) and not self._allow_weak_limits:
            raise StartupError(
                f"Memory and processes of a run cannot be bounded here ({'; '.join(refusals)}).",
                remedy=(
                    "Give the service a control group of its own (Delegate=yes), run it as root, "
                    "or allow weak limits explicitly."
                ),
            )

    def _filter(self, place: Path) -> str | None:
        if Layer.FILTER in self._without:
            return None
        known = seccomp.machine()
        if known is None:
            raise StartupError(
                f"There is no system-call filter for {os.uname().machine}.",
                remedy="Run on x86_64 or aarch64, or use the Kubernetes profile.",
            )
        return _written(place, "filter", seccomp.program(known))

    def _report(self, host: Host) -> Isolation:
        def unless(layer: Layer, how: str) -> str:
            return "none" if layer in self._without else how

        uid = "shared" if host.base_uid is None else "per slot"
        return Isolation(
            launcher="sandbox",
            layers={
                **self._groups.layers,
                "user": "namespace, no nested ones",
                "uid": unless(Layer.UID, uid),
                "filter": unless(Layer.FILTER, "seccomp"),
                "network": "namespace without interfaces",
                "processes seen": "namespace",
                "files": unless(Layer.SEALS, "read-only view, memory-backed scratch"),
                "clock": "process 1",
            },
        )

    async def _prove(self) -> None:
        """Run process 1's own checks in a full sandbox, then kill it and see it go."""
        job = Job(
            command=(arguments.INIT, "probe"),
            environment={},
            files=(),
            timeout_ms=round(_PROBE_SECONDS * 1000),
            limits=Limits(),
        )
        trial = _Trial(asyncio.get_running_loop())
        run = self._spawn(job, trial, Limits(), _PROBE_SECONDS, contents=(), stdin=None)
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await trial.told
        except TimeoutError:
            pass
        outside = self._seen_from_outside(run)
        run.kill()
        findings = probe.findings_of(bytes(trial.output))
        try:
            async with asyncio.timeout(_KILL_SECONDS):
                await trial.gone
        except TimeoutError:
            findings.append(probe.Finding("killed", good=False, seen="alive 1 s after a kill"))
        else:
            self.release(run.slot)
        if trial.end is not None and not trial.end.started:
            raise probe.refused(trial.end.message)
        probe.judge([*findings, *outside], without=self._without)

    def _seen_from_outside(self, run: Run) -> list[probe.Finding]:
        members = run.members()
        expected = None
        if os.geteuid() == 0:
            expected = self._base_uid + run.slot
        known = members or [run.pid]
        statuses = []
        for pid in known:
            with contextlib.suppress(OSError):
                statuses.append(Path(f"/proc/{pid}/status").read_text())
        found = [probe.owner_finding(statuses, expected)]
        if not isinstance(self._groups, NoGroups):
            inside = len(members) > arguments.OWN_PROCESSES
            found.append(probe.Finding("member", inside, f"{len(members)} processes in the group"))
        return found

    async def _recall(self) -> None:
        """Make what the ledger knows, and nobody runs, known again as lost."""
        for name, known in (await self._ledger.all()).items():
            if name not in self._entries:
                self._entries[name] = self._lost(name, known)

    def _lost(self, name: str, known: dict[str, Any]) -> _Entry:
        now = self.now()
        created = known.get("created_at")
        pod = Pod(
            name=name,
            uid=str(known.get("uid", name)),
            execution_id=str(known.get("execution_id", "")),
            phase=PodPhase.ENDED,
            created_at=datetime.fromisoformat(created) if isinstance(created, str) else now,
            node_name=self._node,
            ended_at=now,
            # Nobody can tell any more whether the script began: it is taken to have.
            end=PodEnd(
                Cause.POD_LOST,
                message="The service that ran it ended before it had.",
            ),
        )
        return _Entry(self, pod, None)

    async def _wait_until_free(self) -> None:
        if len(self._free) == self._slots:
            return
        self._all_free = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._all_free
        except TimeoutError:
            for entry in self._entries.values():
                if entry.run is not None:
                    entry.run.kill()
        finally:
            self._all_free = None

    def _close(self) -> None:
        if self._spare is not None:
            self._spare.remove()
        self._spare = None
        self._groups.close()
        if self._null >= 0:
            os.close(self._null)
        self._null = -1
        self._host = None

    # --------------------------------------------------------------------------------- the port

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist and start it; see the port.

        Raises:
            TemporaryError: No slot is free, or the kernel refused for now.
            PermanentError: The runtime is not here, or the arguments are larger than the kernel
                takes.
        """
        if self._host is None:
            raise TemporaryError("The sandbox is not running.")
        if spec.name in self._entries or spec.name in self._used_up:
            return
        running = self._creating.get(spec.name)
        if running is not None:
            await asyncio.shield(running)
            if spec.name not in self._entries:
                raise TemporaryError(f"Creating {spec.name} was broken off.")
            return
        language = (spec.runtime.language, spec.runtime.version)
        interpreter = self.offered.interpreters.get(language)
        if interpreter is None:
            raise PermanentError(f"{' '.join(language)} is not installed on this machine.")
        if not self._free:
            raise TemporaryError("Every slot is taken.", retry_after=_FULL_AGAIN)
        _refuse_oddities(spec)
        done = self._creating[spec.name] = asyncio.get_running_loop().create_future()
        try:
            await self._create(spec, interpreter)
        finally:
            del self._creating[spec.name]
            done.set_result(None)

    async def _create(self, spec: PodSpec, interpreter: Interpreter) -> None:
        pod = Pod(
            name=spec.name,
            uid=self._ids.new(),
            execution_id=spec.execution_id,
            phase=PodPhase.PENDING,
            created_at=self.now(),
            node_name=self._node,
        )
        known = {
            "uid": pod.uid,
            "execution_id": pod.execution_id,
            "created_at": pod.created_at.isoformat(),
        }
        is_second_try = spec.name in self._recorded
        self._recorded.add(spec.name)
        if not await self._ledger.record(spec.name, known) and not is_second_try:
            # A former process had it: it may have run, so it is never started again.
            self._recorded.discard(spec.name)
            self._add(self._lost(spec.name, known))
            return
        if self._host is None or not self._free:
            await self._ledger.forget(spec.name)
            raise TemporaryError("Every slot is taken.", retry_after=_FULL_AGAIN)
        entry = _Entry(self, pod, spec)
        try:
            entry.run = self._spawn(
                arguments.job_of(
                    spec,
                    interpreter=interpreter.command,
                    folder=interpreter.folder,
                    binds=self._binds(interpreter),
                ),
                entry,
                spec.limits,
                spec.timeout.total_seconds(),
                contents=(spec.script, *(content for _, content in spec.files)),
                stdin=spec.stdin,
            )
        except OSError as error:
            await self._ledger.forget(spec.name)
            if error.errno == 7:  # noqa: PLR2004 - E2BIG
                raise PermanentError("Its arguments are longer than the kernel takes.") from error
            raise TemporaryError(f"{spec.name} could not be spawned: {error.strerror}.") from error
        self._recorded.discard(spec.name)
        self._add(entry)

    def _add(self, entry: _Entry) -> None:
        self._entries[entry.pod.name] = entry
        self.wake(entry)

    def _binds(self, interpreter: Interpreter) -> tuple[Bind, ...]:
        prefix = interpreter.prefix
        if prefix is None:
            return ()
        return (Bind(prefix, self._stands if interpreter.is_hidden else None),)

    def _spawn(
        self,
        job: Job,
        listener: "_Entry | _Trial",
        limits: Limits,
        timeout: float,
        *,
        contents: Sequence[bytes],
        stdin: bytes | None,
    ) -> Run:
        """Take a slot and a group, and start; give both back where that fails."""
        host = self._host
        if host is None:
            raise TemporaryError("The sandbox is not running.")
        slot = self._free.popleft()
        leaf: Leaf = NoLeaf()
        try:
            leaf = self._take_leaf(limits)
            run = Run(
                asyncio.get_running_loop(),
                host,
                leaf,
                listener,
                slot=slot,
                limits=limits,
                timeout=timeout,
            )
            if isinstance(self._groups, NoGroups):
                job = replace(job, data_bytes=limits.memory_bytes)
            run.spawn(job, contents, stdin)
        except BaseException:
            leaf.remove()
            self._free.append(slot)
            raise
        return run

    def _take_leaf(self, limits: Limits) -> Leaf:
        """Return a group, most often one that was made while nobody waited for it."""
        leaf, self._spare = self._spare, None
        if leaf is not None and self._spare_limits != limits:
            leaf.remove()
            leaf = None
        self._spare_limits = limits
        asyncio.get_running_loop().call_soon(self._make_spare)
        return self._make_leaf() if leaf is None else leaf

    def _make_spare(self) -> None:
        """Make the next group as the last one was: most runs have the same limits."""
        if self._spare is None and self._host is not None:
            with contextlib.suppress(OSError):
                self._spare = self._make_leaf()

    def _make_leaf(self) -> Leaf:
        limits = self._spare_limits
        self._leaves += 1
        return self._groups.leaf(
            f"run-{os.getpid()}-{self._leaves}",
            limits,
            processes=limits.processes + arguments.OWN_PROCESSES,
        )

    async def delete(self, name: str, *, grace: timedelta, cancel: bool = False) -> None:
        """End and remove it, or with `cancel` end and keep it; see the port.

        Raises:
            TemporaryError: It is being made at this moment.
        """
        running = self._creating.get(name)
        if running is not None:
            await asyncio.shield(running)
        entry = self._entries.get(name)
        if not cancel:
            self._use_up(name)
        if entry is None:
            if not cancel:
                await self._ledger.forget(name)
            return
        if entry.run is None or entry.pod.phase is PodPhase.ENDED:
            if not cancel:
                await self._remove(entry)
        elif cancel:
            entry.run.order(Order.CANCEL, grace.total_seconds())
        else:
            entry.leaving = True
            entry.run.lose(grace.total_seconds())

    async def list(self) -> Sequence[Pod]:
        """Return every pod, ended ones included."""
        return [entry.pod for entry in self._entries.values()]

    async def sweep(self, older_than: timedelta) -> Sequence[str]:  # noqa: ARG002 - the port's
        """Remove nothing: inputs and run are made in one step here."""
        return ()

    async def watch(self) -> AsyncIterator[Pod | PodOutput]:
        """Yield each pod as it is now, then all that follows; see the port.

        A slow reader costs no memory of its own: it reads from what is kept of each pod anyway.
        """
        watcher = _Watcher()
        replay = [(entry, _as_it_is(entry)) for entry in self._entries.values()]
        watcher.seen = {entry: len(entry.log) for entry, _ in replay}
        self._watchers.add(watcher)
        try:
            for _, said in replay:
                for item in said:
                    yield item
            replay.clear()
            while not watcher.closed or watcher.news:
                if not watcher.news:
                    watcher.waiting = asyncio.get_running_loop().create_future()
                    await watcher.waiting
                    continue
                entry = next(iter(watcher.news))
                del watcher.news[entry]
                # Re-read each time: more may be said while the reader holds an item.
                while (at := watcher.seen.get(entry, 0)) < len(entry.log):
                    watcher.seen[entry] = at + 1
                    yield entry.log[at]
                if entry.pod.deleted:
                    del watcher.seen[entry]
                    watcher.news.pop(entry, None)
        finally:
            self._watchers.discard(watcher)

    async def isolation(self) -> Isolation:
        """Return which layers hold."""
        return self._isolation

    # ------------------------------------------------------------------------ called by its pods

    def now(self) -> datetime:
        """Return the time that is shown."""
        return self._clock.now()

    def wake(self, entry: _Entry) -> None:
        """Tell every watcher that a pod has news."""
        for watcher in self._watchers:
            watcher.news[entry] = None
            watcher.wake()

    def release(self, slot: int) -> None:
        """Take a slot back, the longest free one is used next."""
        self._free.append(slot)
        if self._all_free is not None and len(self._free) == self._slots:
            self._all_free.set_result(None)

    def remove_later(self, entry: _Entry) -> None:
        """Remove a pod that was deleted while it ran."""
        task = asyncio.get_running_loop().create_task(self._remove(entry))
        self._removals.add(task)
        task.add_done_callback(self._removed)

    def _removed(self, task: asyncio.Task[None]) -> None:
        """Let a failed removal be: the pod stays known as ended, and can be deleted again."""
        self._removals.discard(task)
        if not task.cancelled():
            task.exception()

    def _use_up(self, name: str) -> None:
        self._used_up[name] = None
        if len(self._used_up) > _NAMES_REMEMBERED:
            self._used_up.popitem(last=False)

    async def _remove(self, entry: _Entry) -> None:
        await self._ledger.forget(entry.pod.name)
        if self._entries.pop(entry.pod.name, None) is not None:
            entry.say(replace(entry.pod, deleted=True))


class _Trial:
    """Listens to the start-up probe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.output = bytearray()
        self.told: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.end: PodEnd | None = None

    def started(self) -> None:
        """Wait for its words."""

    def printed(self, chunk: Chunk) -> None:
        """Gather them until the last line."""
        if chunk.stream == "stdout":
            self.output += chunk.data
        if b"ok done" in self.output and not self.told.done():
            self.told.set_result(None)

    def ended(self, end: PodEnd) -> None:
        """Note it, expected or not."""
        self.end = end
        if not self.told.done():
            self.told.set_result(None)

    def freed(self) -> None:
        """Hear that nothing is left."""
        self.gone.set_result(None)


def _as_it_is(entry: _Entry) -> list[Pod | PodOutput]:
    """Return the state and the output so far, without the states that are over."""
    printed: list[Pod | PodOutput] = [item for item in entry.log if isinstance(item, PodOutput)]
    if entry.pod.phase is PodPhase.ENDED:
        return [*printed, entry.pod]
    return [entry.pod, *printed]


def _refuse_oddities(spec: PodSpec) -> None:
    """Refuse what must never become part of a path or of a command line.

    Whoever submits is told so long before; this is the last look.

    Raises:
        PermanentError: A file name leads elsewhere, or a word holds a NUL.
    """
    names = [spec.runtime.filename, *(name for name, _ in spec.files)]
    odd = [name for name in names if not name or name in {".", ".."} or set(name) & {"/", "\0"}]
    if odd or len(set(names)) < len(names):
        raise PermanentError("The names of its files must be plain and differ.")
    if any("\0" in word for word in (*spec.args, *spec.runtime.environment.values())):
        raise PermanentError("Arguments and environment cannot hold a NUL.")


def _may_mount() -> bool:
    """Say whether this process has CAP_SYS_ADMIN, which root in a container may lack."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 21 & 1)
    return False


def _help_of(program: str) -> str:
    done = subprocess.run([program, "--help"], capture_output=True, check=False, timeout=10)
    return (done.stdout + done.stderr).decode(errors="replace")


def _public_folder() -> Path:
    """Return a folder for what a sandbox shows of ours: slot users must be able to walk there.

    Raises:
        StartupError: There is none.
    """
    choices: Iterable[Path] = (Path("/var/cache"), Path("/run"), Path("/var/lib"))
    if os.geteuid() != 0:
        choices = (Path.home() / ".cache", Path(tempfile.gettempdir()))
    for choice in choices:
        place = choice / f"integr8s-{os.geteuid()}"
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = place.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            is_plain = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            runs = not os.statvfs(place).f_flag & os.ST_NOEXEC
            walks = os.geteuid() != 0 or all(
                parent.stat().st_mode & stat.S_IXOTH for parent in (place, *place.parents)
            )
            if is_ours and is_plain and runs and walks:
                return place
    raise StartupError(
        "No folder can hold the sandbox's process 1.",
        remedy="Mount /var/cache or /run so that programs may be run from there.",
    )


def _written(place: Path, name: str, content: bytes) -> str:
    """Write a file under a name that holds its digest; whoever reads it reads a whole one."""
    target = place / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not target.exists():
        handle, draft = tempfile.mkstemp(dir=place, prefix=f"{name}-draft-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o444)
        Path(draft).replace(target)
    return str(target)


_ETC: Final = {
    "passwd": "root:x:0:0:root:/:/bin/false\nsandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n",
    "group": "root:x:0:\nsandbox:x:1000:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def _view(program: str, binary: str, place: Path, extra: Sequence[str]) -> View:
    """Return what of this machine a sandbox shows: system programs, and an `/etc` of ours."""
    folders, links = ["/usr"], []
    for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            links.append((str(path), str(path.readlink())))
        elif path.is_dir():
            folders.append(str(path))
    return View(
        bubblewrap=program,
        init=binary,
        etc=str(_make_etc(place)),
        folders=(*folders, *extra),
        links=tuple(links),
    )


def _make_etc(place: Path) -> Path:
    """Return a folder with the few files of `/etc` that programs ask for.

    The loader's cache and the links of the alternatives system are copied: without the first every
    program starts slower, without the second `awk` is missing.
    """
    files = {name: content.encode() for name, content in _ETC.items()}
    with contextlib.suppress(OSError):
        files["ld.so.cache"] = Path("/etc/ld.so.cache").read_bytes()
    links: dict[str, str] = {}
    with contextlib.suppress(OSError):
        links = {
            path.name: str(path.readlink())
            for path in sorted(Path("/etc/alternatives").iterdir())
            if path.is_symlink()
        }
    digest = hashlib.sha256(repr((files, links)).encode()).hexdigest()[:16]
    target = place / f"etc-{digest}"
    if target.is_dir():
        return target
    draft = Path(tempfile.mkdtemp(dir=place, prefix="etc-draft-"))
    for name, content in files.items():
        (draft / name).write_bytes(content)
        (draft / name).chmod(0o444)
    (draft / "alternatives").mkdir(mode=0o755)
    for name, goal in links.items():
        (draft / "alternatives" / name).symlink_to(goal)
    draft.chmod(0o755)
    try:
        draft.rename(target)
    except OSError:  # somebody else made the same one meanwhile
        shutil.rmtree(draft, ignore_errors=True)
    return target
