"""Beginning and end of the service itself: restarts, kills, full houses, broken machines."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.sandbox import groups
from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from shared.adapters.sandbox.groups import NoGroups
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.cluster import Cause, PodPhase
from tests.hostile import harness

pytestmark = [pytest.mark.sandbox, harness.needs_sandbox]

LONG = "import time; print('here', flush=True); time.sleep(60)"


@pytest.fixture
async def cluster() -> AsyncIterator[SandboxCluster]:
    """A started cluster."""
    async with harness.sandbox() as started:
        yield started


class Disk(MemoryLedger):
    """A ledger that can be held up, and outlives the cluster."""

    def __init__(self) -> None:
        """Let everything pass."""
        super().__init__()
        self.passes = asyncio.Event()
        self.passes.set()

    async def record(self, name: str, entry: dict[str, Any]) -> bool:
        """Store it, as soon as that is allowed."""
        await self.passes.wait()
        return await super().record(name, entry)


async def test_entry_is_recorded_before_anything_runs() -> None:
    """A crash between the two loses nothing: the pod is known, as lost."""
    ledger = Disk()
    ledger.passes.clear()
    async with harness.sandbox(ledger=ledger) as started:
        creating = asyncio.create_task(started.create(harness.spec("held", "print(1)")))
        await harness.pause(0.02)
        listed = await started.list()
        ledger.passes.set()
        await creating

        assert listed == []
        assert list(ledger.entries) == ["exec-held"]


async def test_restart_reports_what_was_running_as_lost() -> None:
    """Under the same uid, once, and never started again; until it is deleted."""
    ledger = Disk()
    async with harness.sandbox(ledger=ledger) as first:
        watch = harness.Watch(first)
        await first.create(harness.spec("lost", LONG))
        await harness.until(lambda: bool(watch.of("lost").chunks), 5, "it runs")
        (before,) = await first.list()
        await watch.close()
    async with harness.sandbox(ledger=ledger) as second:
        await second.create(harness.spec("lost", LONG))
        watch = harness.Watch(second)
        seen = await watch.ended("lost")
        (after,) = await second.list()
        await second.delete("exec-lost", grace=harness.NO_GRACE)
        await watch.close()

    assert seen.end.cause is Cause.POD_LOST
    assert (after.uid, after.phase) == (before.uid, PodPhase.ENDED)
    assert after.created_at == before.created_at
    assert ledger.entries == {}


async def test_stop_ends_every_run_as_lost() -> None:
    """Watchers hear it, then their watch ends."""
    async with harness.sandbox() as started:
        watch = harness.Watch(started)
        await started.create(harness.spec("stop", LONG))
        await harness.until(lambda: bool(watch.of("stop").chunks), 5, "it runs")
    await harness.until(watch._task.done, 2, "the watch ends")

    assert watch.of("stop").end.cause is Cause.POD_LOST
    assert watch.of("stop").end.stdout.kept == b"here\n"


KILLED = """
import asyncio, sys
from pathlib import Path
from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from tests.hostile import harness

async def main():
    cluster = SandboxCluster(
        folder=Path(sys.argv[1]), ledger=MemoryLedger(), clock=harness.SystemClock(),
        ids=harness.CountedIds(), interpreter_folders=["/usr/bin"], base_uid=int(sys.argv[2]),
    )
    await cluster.start()
    await cluster.create(harness.spec("victim", "import time\\nwhile True: time.sleep(1)"))
    run = cluster._entries["exec-victim"].run
    await harness.until(lambda: run.started and len(run.members()) != 2, 5, "it runs")
    print(*run.members() or [run.pid], flush=True)
    await harness.pause(60)

asyncio.run(main())
"""


async def test_everything_dies_with_a_killed_service(tmp_path: Path) -> None:
    """SIGKILL in the middle: no process outlives it, and the next start sweeps the groups."""
    service = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", KILLED, str(tmp_path), str(harness.BASE_UID + 5000)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[4]), "PATH": "/usr/bin:/bin"},
    )
    assert service.stdout is not None
    with service, service.stdout:
        pids = [int(word) for word in service.stdout.readline().split()]
        service.send_signal(signal.SIGKILL)

    def is_dead(pid: int) -> bool:
        try:
            return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True

    assert pids
    await harness.until(lambda: all(is_dead(pid) for pid in pids), 2, f"{pids} are dead")
    following = SandboxCluster(
        folder=tmp_path,
        ledger=MemoryLedger(),
        clock=harness.SystemClock(),
        ids=harness.CountedIds(),
        interpreter_folders=[],
        base_uid=harness.BASE_UID,
    )
    await following.start()
    await following.stop()

    assert harness.leaves(service.pid) == []


async def test_full_house_is_temporary() -> None:
    """No slot: try again. One that ended makes room."""
    async with harness.sandbox() as started:
        watch = harness.Watch(started)
        for number in range(harness.SLOTS):
            await started.create(harness.spec(f"n{number}", LONG))
        with pytest.raises(TemporaryError):
            await started.create(harness.spec("late", "print(1)"))
        await started.delete("exec-n0", grace=harness.NO_GRACE)
        await harness.until(lambda: bool(started._free), 5, "a slot is free")
        seen = await harness.run(started, watch, harness.spec("late", "print(1)"))
        await watch.close()

    assert seen.end.stdout.kept == b"1\n"


async def test_broken_off_create_can_be_tried_again() -> None:
    """Cancelled while the ledger was writing: nobody knows, so the next try runs it."""
    ledger = Disk()
    async with harness.sandbox(ledger=ledger) as started:
        watch = harness.Watch(started)
        ledger.passes.clear()
        creating = asyncio.create_task(started.create(harness.spec("off", "print(1)")))
        await harness.pause(0.01)
        creating.cancel()
        await asyncio.wait([creating])
        await MemoryLedger.record(ledger, "exec-off", {})
        ledger.passes.set()
        seen = await harness.run(started, watch, harness.spec("off", "print(1)"))
        await watch.close()

    assert seen.end.cause is Cause.EXIT


async def test_arguments_beyond_the_kernel_are_refused_for_good(cluster: SandboxCluster) -> None:
    """Nothing is left of the attempt."""
    with pytest.raises(PermanentError):
        await cluster.create(harness.spec("huge", "print(1)", args=("x" * 3_000_000,)))

    assert await cluster.list() == []
    assert len(cluster._free) == harness.SLOTS


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"files": [("../x", b"")]}, id="upwards"),
        pytest.param({"files": [("/etc/passwd", b"")]}, id="absolute"),
        pytest.param({"files": [("..", b"")]}, id="parent"),
        pytest.param({"files": [("", b"")]}, id="empty"),
        pytest.param({"files": [("a\0b", b"")]}, id="nul"),
        pytest.param({"files": [("a", b""), ("a", b"")]}, id="twice"),
        pytest.param({"files": [("main.py", b"")]}, id="the-script"),
        pytest.param({"args": ("a\0b",)}, id="nul-argument"),
    ],
)
async def test_odd_names_are_refused_for_good(
    cluster: SandboxCluster, more: dict[str, Any]
) -> None:
    """They never reach a path; nothing is made."""
    with pytest.raises(PermanentError):
        await cluster.create(harness.spec("odd", "print(1)", **more))

    assert await cluster.list() == []


async def test_failed_removal_can_be_repeated(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that is away when a deleted run ends: the pod stays until the next delete."""

    async def away(_name: str) -> None:
        raise TemporaryError("away")

    monkeypatch.setattr(cluster._ledger, "forget", away)
    watch = harness.Watch(cluster)
    await cluster.create(harness.spec("stays", LONG))
    await harness.until(lambda: bool(watch.of("stays").chunks), 5, "it runs")
    await cluster.delete("exec-stays", grace=harness.NO_GRACE)
    await watch.ended("stays")
    await harness.until(lambda: not cluster._removals, 2, "the removal failed")
    left = [pod.name for pod in await cluster.list()]
    monkeypatch.undo()
    await cluster.delete("exec-stays", grace=harness.NO_GRACE)
    await watch.close()

    assert left == ["exec-stays"]
    assert await cluster.list() == []


async def test_missing_bubblewrap_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, one remedy."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(StartupError) as caught:
        async with harness.sandbox():
            pass

    assert caught.value.message == "bubblewrap is not installed."
    assert caught.value.remedy == "Install it, e.g. apt-get install bubblewrap."


async def test_weak_limits_need_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without groups the sum over a run is not bounded; that is the operator's to decide."""
    monkeypatch.setattr(groups, "choose", lambda _name: (NoGroups(), ["cgroup v2: not mounted"]))

    with pytest.raises(StartupError, match="allow weak limits"):
        async with harness.sandbox():
            pass


async def test_interpreter_that_vanished_is_no_crash(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run never started, and says why."""
    key = ("python", "3.11")
    found = cluster.offered.interpreters[key]
    broken = type(found)("python", "3.11", ("/usr/bin/not-there",), "/usr/bin")
    monkeypatch.setitem(cluster.offered.interpreters, key, broken)
    watch = harness.Watch(cluster)
    seen = await harness.run(cluster, watch, harness.spec("gone", "print(1)"))
    await watch.close()

    assert (seen.end.cause, seen.end.started) == (Cause.CONTAINER_START, False)
    assert "No such file" in seen.end.message
    assert seen.end.stderr.kept == b""


async def test_killed_process_1_is_reported(cluster: SandboxCluster) -> None:
    """Somebody on the machine killed it: no report, but an end, and all output."""
    watch = harness.Watch(cluster)
    await cluster.create(harness.spec("torn", LONG))
    await harness.until(lambda: bool(watch.of("torn").live("stdout").endswith(b"\n")), 5, "it runs")
    run = cluster._entries["exec-torn"].run
    assert run is not None
    for pid in run.members():
        if pid != run.pid:
            os.kill(pid, signal.SIGKILL)
    seen = await watch.ended("torn", 3)
    await watch.close()

    assert seen.end.cause is Cause.UNKNOWN
    assert seen.end.stdout.kept == b"here\n"
    assert seen.end.usage is not None


async def test_frozen_process_1_does_not_hold_a_run(cluster: SandboxCluster) -> None:
    """A cancel that it does not obey is carried out from outside."""
    watch = harness.Watch(cluster)
    await cluster.create(harness.spec("frozen", LONG))
    await harness.until(lambda: bool(watch.of("frozen").chunks), 5, "it runs")
    run = cluster._entries["exec-frozen"].run
    assert run is not None
    for pid in run.members():
        os.kill(pid, signal.SIGSTOP)
    await cluster.delete("exec-frozen", grace=timedelta(0), cancel=True)
    seen = await watch.ended("frozen", 5)
    await watch.close()

    assert seen.end.cause is Cause.CANCELLED


async def test_every_offered_interpreter_starts() -> None:
    """What is offered can run, wherever on the machine it lies."""
    hello = {
        "python": "print('hello')",
        "bash": "echo hello",
        "node": "console.log('hello')",
        "ruby": "puts 'hello'",
    }
    async with harness.sandbox(folders=None) as started:
        watch = harness.Watch(started)
        keys = [key for key in started.offered.interpreters if key[0] in hello]
        ends = {}
        for language, version in keys:
            name = f"{language}-{version}"
            one = harness.spec(name, hello[language], language=language, version=version)
            ends[name] = (await harness.run(started, watch, one)).end
        await watch.close()

    assert {name: end.stdout.kept for name, end in ends.items()} == dict.fromkeys(ends, b"hello\n")
