"""The promises of the `Cluster` port, kept by whatever stands behind it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import pytest

from shared.domain.errors import PermanentError
from shared.ports.cluster import Cause, Cluster, Limits, Pod, PodOutput, PodPhase
from tests.hostile import harness
from tests.integration.kubernetes import pods


@dataclass(frozen=True)
class Kind:
    """One kind of cluster."""

    opened: Callable[[], AbstractAsyncContextManager[Cluster]]
    pace: float = 1.0
    """How much longer everything may take than in a sandbox."""


CLUSTERS = {
    "sandbox": Kind(harness.sandbox),
    "kubernetes": Kind(pods.cluster, pace=8.0),
}
"""How to start each kind; another kind is another line."""


@pytest.fixture(
    params=[
        pytest.param("sandbox", marks=[pytest.mark.sandbox, harness.needs_sandbox]),
        pytest.param(
            "kubernetes",
            marks=[pytest.mark.integration, pytest.mark.timeout(180)],
        ),
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One kind of cluster after the other."""
    return CLUSTERS[request.param]


@pytest.fixture
async def cluster(kind: Kind) -> AsyncIterator[Cluster]:
    """A started cluster."""
    async with kind.opened() as started:
        yield started


@pytest.fixture
async def watch(cluster: Cluster, kind: Kind) -> AsyncIterator[harness.Watch]:
    """A watch from the beginning."""
    watching = harness.Watch(cluster, pace=kind.pace)
    await harness.pause(0)
    yield watching
    await watching.close()


def phases(seen: harness.Seen) -> list[PodPhase]:
    """Return the phases that were said, in order; one may be said again with another node."""
    said = [item.phase for item in seen.items if isinstance(item, Pod) and not item.deleted]
    return [phase for phase, _ in groupby(said)]


LONG = "import os, time\nos.write(1, b'here\\n')\ntime.sleep(60)"
"""One write: whoever waits for the first byte must find the whole line."""


async def running(watch: harness.Watch, name: str) -> None:
    """Wait until a script has printed something."""
    await watch.until(lambda: bool(watch.of(name).chunks), 10, f"{name} prints")


async def test_run_is_told_from_beginning_to_end(cluster: Cluster, watch: harness.Watch) -> None:
    """Pending, running, output, ended: in this order, with code, output and usage."""
    one = harness.spec("hello", "import os; os.write(1, b'hello\\n'); os._exit(3)")
    seen = await harness.run(cluster, watch, one)

    assert phases(seen) == [PodPhase.PENDING, PodPhase.RUNNING, PodPhase.ENDED]
    assert (seen.end.cause, seen.end.exit_code, seen.end.signal) == (Cause.EXIT, 3, None)
    assert seen.end.stdout.kept == seen.live("stdout") == b"hello\n"
    assert seen.end.output_chunks == len(seen.chunks) == 1
    assert seen.end.usage is not None
    assert 0 < seen.end.usage.wall_seconds < 10
    assert seen.end.usage.cpu_seconds is not None


async def test_pod_carries_its_names_and_times(cluster: Cluster, watch: harness.Watch) -> None:
    """Whoever reads an item knows whose it is and when it happened."""
    seen = await harness.run(cluster, watch, harness.spec("named", "print(1)"))
    (pod,) = await cluster.list()

    assert (pod.name, pod.execution_id) == ("exec-named", "named")
    assert {item.uid for item in seen.items} == {pod.uid}
    assert pod.started_at is not None
    assert pod.ended_at is not None
    assert pod.created_at <= pod.started_at <= pod.ended_at


async def test_create_is_idempotent_while_it_runs(cluster: Cluster, watch: harness.Watch) -> None:
    """A redelivered command starts nothing."""
    one = harness.spec("twice", "print('once')")
    await asyncio.gather(cluster.create(one), cluster.create(one))
    await watch.ended("twice")

    assert len(await cluster.list()) == 1
    assert watch.of("twice").end.stdout.kept == b"once\n"


async def test_create_is_idempotent_after_the_end(cluster: Cluster, watch: harness.Watch) -> None:
    """Until it is deleted, a name stands for one run."""
    one = harness.spec("again", "print('once')")
    seen = await harness.run(cluster, watch, one)
    await cluster.create(one)
    await harness.run(cluster, watch, harness.spec("later", "print(1)"))

    assert len(seen.ends) == 1


async def test_unknown_runtime_is_refused_for_good(cluster: Cluster) -> None:
    """What can never run here is no reason to try again, and leaves nothing."""
    with pytest.raises(PermanentError):
        await cluster.create(harness.spec("old", "print(1)", version="2.7"))

    assert await cluster.list() == []


async def test_arguments_and_files_reach_the_script(cluster: Cluster, watch: harness.Watch) -> None:
    """Names and bytes are data: nothing of them is interpreted on the way."""
    script = (
        "import sys, pathlib\n"
        "for name in sys.argv[1:]: print(repr(name))\n"
        "print(pathlib.Path('/scripts/data.bin').read_bytes())\n"
        "import helper; print(helper.WORD, sys.stdin.read())"
    )
    one = harness.spec(
        "inputs",
        script,
        args=("a b", "", "$(id)", "-rf", "é\n"),
        stdin=b"from outside",
        files=[("data.bin", b"\x00\xff"), ("helper.py", b"WORD = 'helped'")],
    )
    seen = await harness.run(cluster, watch, one)

    assert seen.end.stdout.kept.decode() == (
        "'a b'\n''\n'$(id)'\n'-rf'\n'é\\n'\nb'\\x00\\xff'\nhelped from outside\n"
    ), seen.end


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 262_144, 780_000])
async def test_input_arrives_whole(cluster: Cluster, watch: harness.Watch, size: int) -> None:
    """Whatever the size, and without anybody who has to feed it."""
    script = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    data = bytes(range(251)) * (size // 251 + 1)
    seen = await harness.run(cluster, watch, harness.spec("in", script, stdin=data[:size]))

    assert seen.end.stdout.kept.decode().strip() == hashlib.sha256(data[:size]).hexdigest()


async def test_deadline_ends_a_run(cluster: Cluster, watch: harness.Watch) -> None:
    """What was printed until then is kept."""
    seen = await harness.run(cluster, watch, harness.spec("slow", LONG, seconds=0.4))

    assert seen.end.cause is Cause.DEADLINE
    assert "0.4 s" in seen.end.message
    assert seen.end.stdout.kept == b"here\n"


async def test_cancel_ends_and_keeps(cluster: Cluster, watch: harness.Watch) -> None:
    """A cancelled run is reported with its output, and is there until it is deleted."""
    await cluster.create(harness.spec("cancel", LONG))
    await running(watch, "cancel")
    await cluster.delete("exec-cancel", grace=timedelta(seconds=2), cancel=True)
    await cluster.delete("exec-cancel", grace=timedelta(seconds=2), cancel=True)
    seen = await watch.ended("cancel", 3)
    await cluster.delete("exec-cancel", grace=timedelta(seconds=2), cancel=True)

    assert seen.end.cause is Cause.CANCELLED
    assert seen.end.stdout.kept == b"here\n"
    assert [pod.name for pod in await cluster.list()] == ["exec-cancel"]


async def test_cancel_right_after_create(cluster: Cluster, watch: harness.Watch) -> None:
    """Before the script runs there is nothing to spare."""
    await cluster.create(harness.spec("early", LONG))
    await cluster.delete("exec-early", grace=timedelta(seconds=2), cancel=True)
    seen = await watch.ended("early", 5)

    assert seen.end.cause is Cause.CANCELLED


async def test_cancel_has_a_grace(cluster: Cluster, watch: harness.Watch) -> None:
    """TERM comes first; who uses it well may say good-bye."""
    script = (
        "import os, signal, sys\n"
        "def bye(*_):\n    print('bye', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\nos.write(1, b'here\\n')\n"
        "while True: signal.pause()"
    )
    await cluster.create(harness.spec("polite", script))
    await running(watch, "polite")
    await cluster.delete("exec-polite", grace=timedelta(seconds=5), cancel=True)
    seen = await watch.ended("polite", 2)

    assert (seen.end.cause, seen.end.stdout.kept) == (Cause.CANCELLED, b"here\nbye\n")


async def test_grace_ends_in_a_kill(cluster: Cluster, watch: harness.Watch) -> None:
    """Who does not listen is killed when it is over."""
    script = (
        "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('x', flush=True)\nwhile 1: pass"
    )
    await cluster.create(harness.spec("deaf", script))
    await running(watch, "deaf")
    await cluster.delete("exec-deaf", grace=timedelta(seconds=0.3), cancel=True)
    seen = await watch.ended("deaf", 1.5)

    assert (seen.end.cause, seen.end.signal) == (Cause.CANCELLED, 9)


async def test_delete_after_the_end_is_the_last_word(
    cluster: Cluster, watch: harness.Watch
) -> None:
    """Deleted is said once, however often it is asked for."""
    seen = await harness.run(cluster, watch, harness.spec("gone", "print(1)"))
    await cluster.delete("exec-gone", grace=harness.NO_GRACE)
    await cluster.delete("exec-gone", grace=harness.NO_GRACE)
    await watch.until(lambda: getattr(seen.items[-1], "deleted", False), 2, "deleted is said")

    assert [getattr(item, "deleted", False) for item in seen.items].count(True) == 1
    assert await cluster.list() == []


async def test_a_create_after_the_delete_makes_nothing(
    cluster: Cluster, watch: harness.Watch
) -> None:
    """A slow launch that comes after the clean-up is success, and no second pod."""
    one = harness.spec("late", "print(1)")
    await harness.run(cluster, watch, one)
    await cluster.delete("exec-late", grace=harness.NO_GRACE)
    await cluster.create(one)

    assert await cluster.list() == []


async def test_delete_ends_a_run(cluster: Cluster, watch: harness.Watch) -> None:
    """A run that is removed is lost, and says so before it is gone."""
    await cluster.create(harness.spec("drop", LONG))
    await running(watch, "drop")
    await cluster.delete("exec-drop", grace=harness.NO_GRACE)
    seen = watch.of("drop")
    await watch.until(lambda: getattr(seen.items[-1], "deleted", False), 3, "deleted is said")

    assert seen.end.cause is Cause.POD_LOST
    assert await cluster.list() == []


async def test_delete_of_nothing_is_success(cluster: Cluster) -> None:
    """A command that comes again, or too late, has nothing to do."""
    await cluster.delete("exec-never", grace=harness.NO_GRACE)
    await cluster.delete("exec-never", grace=harness.NO_GRACE, cancel=True)


async def test_late_watch_says_all_again(cluster: Cluster, watch: harness.Watch) -> None:
    """Output from the first byte, then the end; nothing of states that are over."""
    await harness.run(cluster, watch, harness.spec("before", "print('printed')"))
    late = watch.another()
    seen = await late.ended("before", 2)
    await late.close()

    assert seen.live("stdout") == b"printed\n"
    assert phases(seen) == [PodPhase.ENDED]


async def test_watch_in_the_middle_misses_nothing(cluster: Cluster, watch: harness.Watch) -> None:
    """What was printed before, and what comes after, without a gap."""
    pause = 0.3 * watch.pace
    script = f"import time\nprint('one', flush=True)\ntime.sleep({pause})\nprint('two')"
    await cluster.create(harness.spec("middle", script))
    await running(watch, "middle")
    late = watch.another()
    seen = await late.ended("middle")
    await late.close()

    assert seen.live("stdout") == watch.of("middle").live("stdout") == b"one\ntwo\n"
    assert phases(seen) == [PodPhase.RUNNING, PodPhase.ENDED]


async def test_first_byte_is_said_at_once(cluster: Cluster, watch: harness.Watch) -> None:
    """Nobody waits for a buffer to fill while a script is at work."""
    await cluster.create(harness.spec("first", LONG))
    await running(watch, "first")

    assert watch.of("first").live("stdout").startswith(b"here")
    assert not watch.of("first").is_over()


async def test_slow_reader_gets_everything(cluster: Cluster, watch: harness.Watch) -> None:
    """A watch that is not read holds nobody up and loses nothing."""
    slow = cluster.watch()
    first: Any = asyncio.ensure_future(anext(aiter(slow)))
    await harness.pause(0)
    script = "import sys\nfor _ in range(4000): sys.stdout.write('x' * 100)\n"
    await harness.run(cluster, watch, harness.spec("much", script))
    items = [await first]
    while not (isinstance(items[-1], Pod) and items[-1].phase is PodPhase.ENDED):
        items.append(await anext(aiter(slow)))
    await slow.aclose()  # type: ignore[attr-defined]

    assert b"".join(item.data for item in items if isinstance(item, PodOutput)) == b"x" * 400_000


async def test_limits_are_those_of_the_spec(cluster: Cluster, watch: harness.Watch) -> None:
    """Seen from inside: descriptors, and how much of a stream is kept."""
    limits = Limits(open_files=64, output_kept_bytes=1000)
    script = "import resource; print(resource.getrlimit(7)); print('x' * 5000)"
    seen = await harness.run(cluster, watch, harness.spec("limits", script, limits=limits))

    assert seen.end.stdout.kept.startswith(b"(64, 64)\n")
    assert len(seen.end.stdout.kept) == 1000
    assert seen.end.stdout.total_bytes == 5010
    assert seen.chunks[-1].truncated


async def test_isolation_names_its_layers(cluster: Cluster) -> None:
    """Whoever asks is told how each layer is kept."""
    isolation = await cluster.isolation()

    assert {"memory", "processes", "cpu", "uid", "filter", "network"} <= set(isolation.layers)
    assert "none" not in {isolation.layers[name] for name in ("filter", "network", "uid")}
