"""Whatever dies or stands still while scripts run: nothing is lost, nothing happens twice."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress

import pytest

from shared.runtime.evidence import Fault
from tests.cluster import faults
from tests.cluster.installation import Installation
from tests.cluster.installing import NAMESPACE
from tests.engines import catalogue, process
from tests.engines.engine import Engine
from tests.ledger import ends_of, now, pause, submit_surely

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_REST_SECONDS = 240
_SCRIPTS = (
    "print('quick')",
    "import time\nfor n in range(4):\n    print(n, flush=True)\n    time.sleep(0.3)",
    "import time\ntime.sleep(2)\nprint('slow')",
)
_OUTPUTS = (b"quick\n", b"0\n1\n2\n3\n", b"slow\n")
_KILLS = 2
_WELL = {("completed", None)}


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Return a generator whose seed is shown with a failure; --randomly-seed repeats it."""
    seed = random.getrandbits(32)
    print(f"{request.node.name}: the faults come from the seed {seed}")  # noqa: T201 - for the report of a failure
    return random.Random(seed)  # noqa: S311 - moments, no secrets


async def _load(world: Installation, count: int, key: str) -> list[str]:
    """Submit scripts as clients who do not give up; return the ids of their executions."""
    up = asyncio.Event()
    up.set()

    async def one(number: int) -> str | None:
        await pause(number * 0.2)
        script = _SCRIPTS[number % len(_SCRIPTS)]
        return await submit_surely(world, script, f"{key}-{number}", lang="python", is_up=up)

    found = await asyncio.gather(*(one(number) for number in range(count)))
    for number, execution_id in enumerate(found):
        if execution_id is not None:
            world.outputs[execution_id] = _OUTPUTS[number % len(_SCRIPTS)]
    return [execution_id for execution_id in found if execution_id is not None]


async def _ends_well(
    world: Installation, ids: Sequence[str], *, but: Collection[tuple[str, str | None]] = ()
) -> None:
    """Wait until all is over and judge it.

    Raises:
        AssertionError: With what does not hold.
    """
    known = await world.until_at_rest(seconds=_REST_SECONDS)
    made = {name: count for name, count in world.creations().items() if count > 1}
    assert made == {}, f"pods that were made twice, by the audit log: {made}"
    violations = await world.violations()
    assert not violations, "\n".join(violations)
    assert ends_of(known, ids) <= _WELL | set(but)


async def test_every_function_is_killed_while_fifty_scripts_run(
    world: Installation, chance: random.Random
) -> None:
    """Each at a random moment, as often as it is seen, and every script still ends well."""
    killed: Counter[str] = Counter()
    killing = asyncio.create_task(_kill_functions(world, chance, killed))
    ids = await _load(world, 50, "killed")
    await world.until_status(ids, "completed", seconds=_REST_SECONDS)
    killing.cancel()
    with suppress(asyncio.CancelledError):
        await killing

    print(f"killed: {dict(killed)}")  # noqa: T201 - for whoever reads the log
    on_the_way = {
        *("coordinate", "launch-pod", "monitor-pods"),
        *("persist-result", "relay-events", "saga-step", "gateway"),
    }
    assert on_the_way <= set(killed)
    await _ends_well(world, ids)


async def _kill_functions(world: Installation, chance: random.Random, killed: Counter[str]) -> None:
    """Kill one process after the other, those first that had it seldom."""
    while True:
        await pause(chance.uniform(0.3, 1.5))
        running = await asyncio.to_thread(faults.function_processes, world.api, NAMESPACE)
        chance.shuffle(running)
        if running:
            victim = min(running, key=lambda one: killed[one.slug])
            begun = now()
            # Kubernetes waits longer before each restart, so more would only test its patience.
            if killed[victim.slug] < _KILLS and victim.kill():
                killed[victim.slug] += 1
                world.faults.append(Fault(f"{victim.slug} was killed", begun, now()))


def _engine(name: str) -> Engine:
    (found,) = [one for one in catalogue.with_needs([name]) if one.name == name]
    return found


FAULTS: dict[str, Callable[[], Awaitable[Fault]]] = {
    "kafka-killed": lambda: faults.killed(_engine("kafka"), "kafka"),
    "redis-killed": lambda: faults.killed(_engine("redis"), "redis"),
    "kubelet-killed": lambda: faults.killed(_engine("kubernetes"), "kubelet"),
    "kafka-paused": lambda: faults.paused("kafka", 15),
    "redis-paused": lambda: faults.paused("redis", 15),
    "kubelet-paused": lambda: faults.paused("kubelet", 15),
    # The stand-in for MongoDB loses acknowledged writes when it is killed, which no MongoDB does.
    "mongo-restarted": lambda: faults.restarted(_engine("mongo")),
    "mongo-paused": lambda: faults.paused("mongo", 15),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_an_engine_fails_during_load(
    world: Installation, name: str, chance: random.Random
) -> None:
    """What was accepted ends well, by itself, once the engine is back."""
    loading = asyncio.create_task(_load(world, 20, name))
    await pause(chance.uniform(1, 5))

    world.faults.append(await FAULTS[name]())

    assert process.running(name.partition("-")[0])
    ids = await loading
    # A container that was being made when its node failed is never made again, and says so.
    lost = {("error", "system_error"), ("failed", "system_error")} if "kubelet" in name else set()
    await _ends_well(world, ids, but=lost)
