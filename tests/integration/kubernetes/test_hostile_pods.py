"""The hostile scripts of the sandbox, in pods: the same script, the same result."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from shared.ports.cluster import Cause, Limits, PodEnd
from tests.hostile import harness
from tests.hostile.expectations import SMALL, TABLE, Expected, run_in_company, source
from tests.hostile.harness import MIB
from tests.integration.kubernetes import pods

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PACE = 6.0
NETWORK = "h35_network"
"""Runs apart: what it reaches depends on what enforces the policy."""
OTHERWISE: dict[str, dict[str, Any]] = {"h15_never_reads": {"more": {"stdin": b"x" * 700_000}}}
"""What a ConfigMap does not hold in full."""
ROWS = [replace(row, **OTHERWISE.get(row.script, {})) for row in TABLE if row.script != NETWORK]


@pytest.fixture
async def cluster() -> AsyncIterator[pods.PodCluster]:
    """Pods with a uid each, which is what lets the kernel count their processes apart."""
    async with pods.cluster(first_uid=1_000_000) as opened:
        yield opened


@pytest.fixture
async def watch(cluster: pods.PodCluster) -> AsyncIterator[harness.Watch]:
    """A watch from the beginning."""
    watching = harness.Watch(cluster, pace=PACE)
    await harness.pause(0)
    yield watching
    await watching.close()


async def ended(cluster: pods.PodCluster, watch: harness.Watch, script: str) -> PodEnd:
    """Run one script to its end."""
    one = harness.spec(script.replace("_", "-"), source(script))
    return (await harness.run(cluster, watch, one)).end


@pytest.mark.parametrize("expected", ROWS, ids=str)
async def test_script_comes_to_nothing(
    cluster: pods.PodCluster, watch: harness.Watch, expected: Expected
) -> None:
    """It ends as in a sandbox, opens nothing, and disturbs neither neighbour nor successor."""
    await run_in_company(cluster, watch, expected)


async def test_network_is_shut_by_the_filter_alone() -> None:
    """Every internet socket is refused, so that nothing has to enforce a policy."""
    async with pods.cluster(internet_sockets=False) as cluster:
        watch = harness.Watch(cluster, pace=PACE)
        one = harness.spec("network", source(NETWORK))
        end = (await harness.run(cluster, watch, one)).end
        await watch.close()

    assert b"OPEN" not in end.stdout.kept
    assert b"PermissionError" in end.stderr.kept
    assert end.exit_code == 1


async def test_environment_is_exactly_the_contract(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Nothing of the cluster is to be seen, nor of the image, nor of other processes."""
    found = json.loads((await ended(cluster, watch, "h28_sight")).stdout.kept)

    assert set(found["own"]) - {"LC_CTYPE"} == {
        *("EXECUTION_ID", "OUTPUT_PATH", "PATH", "HOME", "TMPDIR", "LANG", "TZ"),
        *("PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"),
    }
    assert (found["others"], found["processes"]) == ({}, [1])
    assert (found["umask"], found["cwd"], found["host"]) == (0o022, "/tmp", "sandbox")  # noqa: S108
    assert found["uid"] >= 1_000_000


async def test_user_is_the_contract_s_where_all_share_it() -> None:
    """The image knows its name."""
    async with pods.cluster() as cluster:
        watch = harness.Watch(cluster, pace=PACE)
        one = harness.spec("user", "id -u; id -un", language="bash", version="5.2")
        end = (await harness.run(cluster, watch, one)).end
        await watch.close()

    assert end.stdout.kept == b"1000\nsandbox\n"


async def test_threads_count_as_processes(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """All but the script's own first one; neither process 1 nor the pod's own are counted."""
    one = harness.spec("threads", source("h02_threads"), limits=Limits(processes=20))

    assert b"count 19\n" in (await harness.run(cluster, watch, one)).end.stdout.kept


async def test_memory_peaks_at_its_limit(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """The figures name the limit, and what was printed before is kept."""
    one = harness.spec("memory", source("h06_memory"), limits=SMALL)
    end = (await harness.run(cluster, watch, one)).end

    assert end.usage is not None
    assert end.usage.peak_memory_kb is not None
    assert 0.95 * 64 * 1024 <= end.usage.peak_memory_kb <= 64 * 1024
    assert end.stdout.kept == b"before\n"
    assert "65536 KiB" in end.message


async def test_processor_share_is_bounded(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """A quarter of a processor for a second is a quarter of a second, and set-up."""
    limits = Limits(cpu_millicores=250)
    one = harness.spec("busy", source("h08_busy"), seconds=1, limits=limits)
    end = (await harness.run(cluster, watch, one)).end

    assert end.usage is not None
    assert end.usage.cpu_seconds is not None
    assert 0.1 < end.usage.cpu_seconds < 0.6


async def test_output_is_cut_and_counted(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """The first bytes are kept, the rest is counted, the other stream is whole."""
    seen = await harness.run(cluster, watch, harness.spec("cut", source("h10_truncated")))

    assert seen.end.stdout.kept == b"0123456789abcdef" * (512 * 1024 // 16)
    assert seen.end.stdout.total_bytes == MIB
    assert [chunk.truncated for chunk in seen.chunks if chunk.stream == "stdout"][-1]
    assert seen.end.stderr.kept == b"line\n"


async def test_files_do_not_outlive_a_run(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """Runs after each other on one node see nothing of each other's files."""
    script = source("h20_leaves_files")
    ends = [
        (await harness.run(cluster, watch, harness.spec(f"mark{number}", script))).end
        for number in range(2)
    ]

    assert all(b"OPEN" not in end.stdout.kept for end in ends)
    assert all(b"done" in end.stdout.kept for end in ends)


@pytest.mark.parametrize(
    ("script", "cause", "value"),
    [
        pytest.param("import os; os._exit(137)", Cause.EXIT, 137, id="exit-137"),
        pytest.param("import sys; sys.exit(-1)", Cause.EXIT, 255, id="exit-minus-1"),
        pytest.param("import os; os.kill(os.getpid(), 9)", Cause.SIGNAL, 9, id="sig-9"),
        pytest.param("import os; os.kill(os.getpid(), 11)", Cause.SIGNAL, 11, id="sig-11"),
    ],
)
async def test_codes_and_signals_are_told_apart(
    cluster: pods.PodCluster, watch: harness.Watch, script: str, cause: Cause, value: int
) -> None:
    """137 is a code when the script says so, and a signal only when one ended it."""
    end = (await harness.run(cluster, watch, harness.spec("end", script))).end

    assert end.cause is cause
    assert (end.exit_code, end.signal) == ((value, None) if cause is Cause.EXIT else (None, value))


async def test_streams_can_be_opened_again(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """Shell scripts write to /dev/stderr by name."""
    script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin; yes | head -1"
    one = harness.spec("open", script, language="bash", version="5.2", stdin=b"in\n")
    end = (await harness.run(cluster, watch, one)).end

    assert (end.stdout.kept, end.stderr.kept) == (b"out\nin\ny\n", b"err\n")
