"""Scripts that mean no good, one by one, and what must become of each."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.sandbox.cluster import SandboxCluster
from shared.ports.cluster import Cause, Limits, PodEnd
from tests.hostile import harness
from tests.hostile.harness import MIB

pytestmark = [pytest.mark.sandbox, harness.needs_sandbox]

SCRIPTS = Path(__file__).with_name("scripts")
SMALL = Limits(memory_bytes=64 * MIB)
CANARY = "import time; time.sleep(0.1); print('alive')"


@dataclass(frozen=True)
class Expected:
    """One row: how a script is run, and what may come of it."""

    script: str
    causes: tuple[Cause, ...] = (Cause.EXIT,)
    exit_code: int | None = None
    signals: tuple[int, ...] = ()
    says: tuple[bytes, ...] = (b"done",)
    """What its standard output must have: a script that died early proves nothing."""
    seconds: float = 10.0
    longest: float = 15.0
    """Wall time of the run, by its own usage figure."""
    limits: Limits = SMALL
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.script


MEMORY = (Cause.OUT_OF_MEMORY,)
TABLE = [
    Expected(
        "h01_fork_bomb",
        (Cause.DEADLINE,),
        says=(b"refused fork",),
        seconds=1,
        longest=4,
        limits=Limits(memory_bytes=512 * MIB),
    ),
    Expected("h02_threads", says=(b"refused threads",), exit_code=0),
    Expected("h03_kill_all", exit_code=0),
    Expected("h04_daemon", exit_code=5, says=(), longest=1),
    Expected("h05_ptrace"),
    Expected("h06_memory", MEMORY, says=(b"before",)),
    Expected("h06_memory_of_child", MEMORY, says=(), longest=5),
    Expected("h07_memory_elsewhere", MEMORY, says=(b"refused /tmp/a", b"refused /dev/shm/a")),
    Expected("h07_memfd", MEMORY, says=()),
    Expected("h08_busy", (Cause.DEADLINE,), says=(b"busy",), seconds=0.7, longest=1.7),
    Expected("h08_ignores_term", (Cause.DEADLINE,), says=(b"busy",), seconds=0.5, longest=3.5),
    Expected("h08_leaves_on_term", (Cause.DEADLINE,), says=(), seconds=0.5, longest=1.5),
    Expected("h08_stopped", (Cause.DEADLINE,), says=(), seconds=0.5, longest=1.5),
    Expected("h09_sleeps", (Cause.DEADLINE,), says=(), seconds=0.5, longest=1.5),
    Expected("h10_flood", (Cause.OUTPUT_FLOOD,), says=(b"xxxx",)),
    Expected("h10_truncated", exit_code=0, says=(b"0123456789abcdef",)),
    Expected("h10_drip", exit_code=0, says=(b"....",)),
    Expected("h11_bytes", exit_code=0, says=(bytes(range(256)),)),
    Expected("h12_frames", exit_code=7, says=(b"event: result\n",)),
    Expected("h13_descriptors", exit_code=9),
    Expected("h14_stdin", exit_code=0, says=(b"read 0",)),
    Expected("h15_never_reads", exit_code=4, says=(), more={"stdin": b"x" * 10 * MIB}),
    Expected("h16_disk"),
    Expected("h16_inodes", MEMORY, says=(), seconds=20),
    Expected("h17_deep"),
    Expected("h18_sparse"),
    Expected("h19_system"),
    Expected("h20_leaves_files", exit_code=0),
    Expected("h21_own_source"),
    Expected("h28_sight", exit_code=0, says=(b'"processes": [1]',)),
    Expected("h31_mounts"),
    Expected("h32_namespaces"),
    Expected("h34_kernel"),
    Expected("h35_network", says=(b"own loopback works", b"done")),
    Expected("h39_setuid"),
    Expected("h40_descriptors", says=(b"refused descriptors EMFILE",)),
    Expected("h41_recursion", exit_code=1, says=()),
    Expected("h41_overflow", (Cause.SIGNAL,), signals=(11,), says=()),
]


def source(name: str) -> bytes:
    """Return a hostile script."""
    return (SCRIPTS / f"{name}.py").read_bytes()


@pytest.mark.parametrize("expected", TABLE, ids=str)
async def test_script_comes_to_nothing(
    cluster: SandboxCluster, watch: harness.Watch, expected: Expected
) -> None:
    """It ends as expected, opens nothing, and disturbs neither who runs beside nor who is next."""
    one = harness.spec(
        "hostile",
        source(expected.script),
        seconds=expected.seconds,
        limits=expected.limits,
        **expected.more,
    )
    seen, canary = await asyncio.gather(
        harness.run(cluster, watch, one, seconds=30),
        harness.run(cluster, watch, harness.spec("canary", CANARY), seconds=30),
    )
    following = await harness.run(cluster, watch, harness.spec("next", "print('next')"))

    end = seen.end
    assert end.cause in expected.causes, end
    assert expected.exit_code in (None, end.exit_code)
    assert not expected.signals or end.signal in expected.signals
    assert b"OPEN" not in end.stdout.kept, end.stdout.kept.decode(errors="replace")
    assert all(words in end.stdout.kept for words in expected.says), end
    assert end.usage is not None
    assert end.usage.wall_seconds <= expected.longest
    assert_is_well_told(seen)
    assert canary.end.stdout.kept == b"alive\n"
    assert following.end.stdout.kept == b"next\n"


def assert_is_well_told(seen: harness.Seen) -> None:
    """One end, after all output; live output is exactly what is kept."""
    end = seen.end
    assert getattr(seen.items[-1], "end", None) is end
    assert len(seen.chunks) == end.output_chunks
    assert seen.live("stdout") == end.stdout.kept
    assert seen.live("stderr") == end.stderr.kept
    assert end.message or end.cause is Cause.EXIT


async def ended(cluster: SandboxCluster, watch: harness.Watch, script: str, **more: Any) -> PodEnd:
    """Run one script to its end."""
    return (await harness.run(cluster, watch, harness.spec(script, source(script), **more))).end


async def test_fork_bomb_reaches_the_limit_only(
    cluster: SandboxCluster, watch: harness.Watch
) -> None:
    """While it goes on, there are never more processes than its limit and our own two."""
    limits = Limits(processes=32)
    await cluster.create(harness.spec("bomb", source("h01_fork_bomb"), seconds=1, limits=limits))
    run = cluster._entries["exec-bomb"].run
    assert run is not None
    await harness.until(lambda: len(run.members()) >= 32, 3, "32 processes")

    assert len(run.members()) <= 34
    assert (await watch.ended("bomb")).end.cause is Cause.DEADLINE


async def test_threads_count_as_processes(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """The script reports how many it could start: all but its own first one."""
    end = await ended(cluster, watch, "h02_threads", limits=Limits(processes=20))

    assert b"count 19\n" in end.stdout.kept


async def test_memory_peaks_at_its_limit(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """The figures name the limit, and what was printed before is kept."""
    end = await ended(cluster, watch, "h06_memory", limits=SMALL)

    assert end.usage is not None
    assert end.usage.peak_memory_kb is not None
    assert 0.95 * 64 * 1024 <= end.usage.peak_memory_kb <= 64 * 1024
    assert end.stdout.kept == b"before\n"
    assert "65536 KiB" in end.message


async def test_sleeping_costs_nothing(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """Processor time is that of the processor, not of the wall."""
    end = await ended(cluster, watch, "h09_sleeps", seconds=0.5)

    assert end.usage is not None
    assert end.usage.cpu_seconds is not None
    assert end.usage.cpu_seconds < 0.2
    assert end.usage.complete


async def test_processor_share_is_bounded(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """A quarter of a processor for a second is a quarter of a second, and set-up."""
    end = await ended(cluster, watch, "h08_busy", seconds=1, limits=Limits(cpu_millicores=250))

    assert end.usage is not None
    assert end.usage.cpu_seconds is not None
    assert 0.1 < end.usage.cpu_seconds < 0.45


async def test_output_is_cut_and_counted(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """The first bytes are kept, the rest is counted, the other stream is whole."""
    seen = await harness.run(cluster, watch, harness.spec("cut", source("h10_truncated")))

    assert seen.end.stdout.kept == b"0123456789abcdef" * (512 * 1024 // 16)
    assert seen.end.stdout.total_bytes == MIB
    assert seen.end.stdout.truncated
    assert [chunk.truncated for chunk in seen.chunks if chunk.stream == "stdout"][-1]
    assert seen.end.stderr.kept == b"line\n"
    assert not seen.end.stderr.truncated


async def test_flood_delays_nobody(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """The first byte beside two floods comes about as fast as alone."""
    loop = asyncio.get_running_loop()
    limits = Limits(output_drained_bytes=400 * MIB)
    for number in (1, 2):
        await cluster.create(harness.spec(f"flood{number}", source("h10_flood"), limits=limits))
    begun = loop.time()
    await cluster.create(harness.spec("quiet", "print('x')"))
    await harness.until(lambda: bool(watch.of("quiet").chunks), 5, "a first byte")

    assert loop.time() - begun < 0.5


async def test_dripping_makes_ten_chunks_a_second(
    cluster: SandboxCluster, watch: harness.Watch
) -> None:
    """However often a script writes, no second has more than ten chunks."""
    seen = await harness.run(cluster, watch, harness.spec("drip", source("h10_drip")))

    assert 10 <= len(seen.chunks) <= 32


async def test_bytes_arrive_as_written(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """Nothing on the way takes bytes for text."""
    end = await ended(cluster, watch, "h11_bytes")

    expected = bytes(range(256)) * 4 + b"\xff\xfe\x00 \xe2\x80" + b"\xa8 \x1b[31mred\x1b[0m\rover\n"
    assert end.stdout.kept == expected


async def test_files_do_not_outlive_a_run(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """Runs after each other and at once see nothing of each other's files."""
    script = source("h20_leaves_files")
    specs = [harness.spec(f"mark{number}", script) for number in range(4)]
    first = await harness.run(cluster, watch, specs[0])
    rest = await asyncio.gather(*(harness.run(cluster, watch, one) for one in specs[1:]))

    assert all(b"OPEN" not in seen.end.stdout.kept for seen in (first, *rest))
    assert all(b"done" in seen.end.stdout.kept for seen in (first, *rest))


async def test_environment_is_exactly_the_contract(
    cluster: SandboxCluster, watch: harness.Watch
) -> None:
    """Nothing of the service is to be seen, and nothing of other processes."""
    end = await ended(cluster, watch, "h28_sight")

    found = json.loads(end.stdout.kept)
    own = found["own"]
    assert set(own) - {"LC_CTYPE"} == {
        *("EXECUTION_ID", "OUTPUT_PATH", "PATH", "HOME", "TMPDIR", "LANG", "TZ"),
        *("PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"),
    }
    assert own["EXECUTION_ID"] == "h28_sight"
    assert found["others"] == {}
    assert (found["uid"], found["umask"], found["cwd"]) == (1000, 0o022, "/tmp")  # noqa: S108
    assert found["host"] == "sandbox"


@pytest.mark.parametrize(
    ("script", "cause", "value"),
    [
        *[
            pytest.param(f"import os; os._exit({code})", Cause.EXIT, code, id=f"exit-{code}")
            for code in (0, 1, 137, 139, 255)
        ],
        pytest.param("import sys; sys.exit(256)", Cause.EXIT, 0, id="exit-256"),
        pytest.param("import sys; sys.exit(-1)", Cause.EXIT, 255, id="exit-minus-1"),
        *[
            pytest.param(
                f"import os; os.kill(os.getpid(), {number})",
                Cause.SIGNAL,
                number,
                id=f"sig-{number}",
            )
            for number in (6, 9, 11, 15)
        ],
    ],
)
async def test_codes_and_signals_are_told_apart(
    cluster: SandboxCluster, watch: harness.Watch, script: str, cause: Cause, value: int
) -> None:
    """137 is a code when the script says so, and a signal only when one ended it."""
    end = (await harness.run(cluster, watch, harness.spec("end", script))).end

    assert end.cause is cause
    assert (end.exit_code, end.signal) == ((value, None) if cause is Cause.EXIT else (None, value))


async def test_signals_are_at_their_defaults(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """The service ignores SIGPIPE; a script that inherited that would see an error, not an end."""
    script = "yes | head -1; echo ${PIPESTATUS[0]}; awk 'BEGIN { print 6 * 7 }'; id -un"
    one = harness.spec("pipe", script, language="bash", version="5.2")
    end = (await harness.run(cluster, watch, one)).end

    assert end.stdout.kept == b"y\n141\n42\nsandbox\n"
    assert end.stderr.kept == b""


async def test_streams_can_be_opened_again(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """Shell scripts write to /dev/stderr by name."""
    script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin"
    one = harness.spec("open", script, language="bash", version="5.2", stdin=b"in\n")
    end = (await harness.run(cluster, watch, one)).end

    assert end.stdout.kept == b"out\nin\n"
    assert end.stderr.kept == b"err\n"


async def test_many_at_once_leave_nothing(cluster: SandboxCluster, watch: harness.Watch) -> None:
    """Ends of sixteen runs meet in one loop; each keeps its own output."""
    specs = [harness.spec(f"many{n}", f"print({n})", seconds=20) for n in range(16)]
    seen = await asyncio.gather(*(harness.run(cluster, watch, one) for one in specs))

    assert [one.end.stdout.kept for one in seen] == [b"%d\n" % n for n in range(16)]
