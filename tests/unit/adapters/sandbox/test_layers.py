"""Each layer taken away: what must then be seen, by the probe and by a hostile script."""

from collections.abc import Collection
from pathlib import Path

import pytest

from shared.adapters.sandbox import probe
from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from shared.adapters.sandbox.probe import Layer
from shared.domain.errors import StartupError
from shared.ports.cluster import Cause, Limits
from tests.hostile import harness

pytestmark = [pytest.mark.sandbox, harness.needs_sandbox]

SCRIPTS = Path(__file__).parents[3] / "hostile" / "scripts"


async def output(script: str, *, without: Collection[Layer], **more: object) -> bytes:
    """Run a hostile script in a sandbox that lacks a layer, and return what it printed."""
    one = harness.spec("layer", (SCRIPTS / f"{script}.py").read_bytes(), **more)  # type: ignore[arg-type]
    async with harness.sandbox(without=without) as cluster:
        watch = harness.Watch(cluster)
        seen = await harness.run(cluster, watch, one)
        await watch.close()
    assert b"done" in seen.end.stdout.kept, seen.end
    return seen.end.stdout.kept


@pytest.mark.parametrize(
    ("layer", "script"),
    [
        pytest.param(Layer.FILTER, "h34_kernel", id="filter-kernel"),
        pytest.param(Layer.SEALS, "h16_disk", id="seals-disk"),
    ],
)
async def test_without_a_layer_something_is_open(layer: Layer, script: str) -> None:
    """The very script that finds nothing open in a whole sandbox finds it here."""
    assert b"OPEN" in await output(script, without=[layer])


@pytest.mark.skipif("os.geteuid() != 0", reason="only root has a uid to drop")
async def test_without_the_drop_root_files_are_readable() -> None:
    """A file of root's behind a read-only bind, with the drop and without."""
    secret = Path("/var/lib") / f"integr8s-test-{harness.BASE_UID}"
    secret.mkdir(mode=0o755)
    try:
        file = secret / "secret"
        file.touch(mode=0o600)
        seen = []
        for without in ([], [Layer.UID]):
            async with harness.sandbox(without=without, extra_folders=[str(secret)]) as cluster:
                watch = harness.Watch(cluster)
                script = (SCRIPTS / "root_files.py").read_bytes()
                one = harness.spec("root", script, args=(str(file),))
                seen.append((await harness.run(cluster, watch, one)).end.stdout.kept)
                await watch.close()
    finally:
        file.unlink()
        secret.rmdir()

    assert seen == [b"refused root_file EACCES\ndone\n", b"OPEN root_file\ndone\n"]


async def test_without_groups_memory_of_many_is_not_bounded() -> None:
    """Three processes of 40 MiB each in a run of 64: a limit per process lets that pass."""
    script = (
        "import os, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        held = b'x' * (40 << 20)\n"
        "        time.sleep(0.5)\n"
        "        os._exit(0)\n"
        "for _ in range(3): os.wait()\n"
    )
    causes, usages = [], []
    for without in ([], [Layer.GROUPS]):
        async with harness.sandbox(without=without) as cluster:
            watch = harness.Watch(cluster)
            limits = Limits(memory_bytes=64 * harness.MIB)
            end = (await harness.run(cluster, watch, harness.spec("m", script, limits=limits))).end
            causes.append(end.cause)
            usages.append(end.usage)
            await watch.close()

    assert causes == [Cause.OUT_OF_MEMORY, Cause.EXIT]
    assert usages[1] is not None
    assert (usages[1].source, usages[1].complete) == ("wait4", False)


@pytest.mark.parametrize("layer", [Layer.FILTER, Layer.SEALS, Layer.UID, Layer.GROUPS])
async def test_probe_notices_a_missing_layer(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox without it is not started, if nobody waives the check."""
    if layer is Layer.GROUPS:
        monkeypatch.setattr(probe, "_WAIVED", {})
    else:
        monkeypatch.setitem(probe._WAIVED, layer, frozenset())
    cluster = SandboxCluster(
        folder=Path("/nowhere"),
        ledger=MemoryLedger(),
        clock=harness.SystemClock(),
        ids=harness.CountedIds(),
        interpreter_folders=[],
        without=[layer],
        base_uid=harness.BASE_UID,
        is_probed=True,
    )

    with pytest.raises(StartupError):
        await cluster.start()
