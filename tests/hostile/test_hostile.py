"""Scripts that mean no good, one by one, and what must become of each."""

import asyncio
import json
from typing import Any

import pytest

from shared.adapters.sandbox.cluster import SandboxCluster
from shared.ports.cluster import Cause, Limits, PodEnd
from tests.hostile import harness
from tests.hostile.expectations import SMALL, TABLE, Expected, run_in_company, source
from tests.hostile.harness import MIB

pytestmark = [pytest.mark.sandbox, harness.needs_sandbox]


@pytest.mark.parametrize("expected", TABLE, ids=str)
async def test_script_comes_to_nothing(
    cluster: SandboxCluster, watch: harness.Watch, expected: Expected
) -> None:
    """It ends as expected, opens nothing, and disturbs neither who runs beside nor who is next."""
    await run_in_company(cluster, watch, expected)


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
