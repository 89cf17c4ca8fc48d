"""What must become of each hostile script, wherever it runs."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.ports.cluster import Cause, Cluster, Limits
from tests.hostile import harness
from tests.hostile.harness import MIB

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


async def run_in_company(cluster: Cluster, watch: harness.Watch, expected: Expected) -> None:
    """Run a script beside a harmless one and before another; all three end as they should."""
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
