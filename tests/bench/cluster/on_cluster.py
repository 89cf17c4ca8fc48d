"""What is measured with the functions as pods, KEDA and Knative, beside the floor in turns."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from time import perf_counter, time
from typing import Any

from shared.events.topics import Topic
from tests.bench.client import Client
from tests.bench.cluster import timeline
from tests.bench.cluster.bare import Floor, rate_of
from tests.bench.cluster.sightings import PodWatch, Sighting
from tests.bench.cluster.sizes import Sizes
from tests.bench.cluster.tail import RESULT, Tail
from tests.bench.cluster.timeline import Run
from tests.bench.figures import Figure, Sample
from tests.bench.phases import Measured
from tests.cluster.installation import SLOTS, Installation
from tests.cluster.installing import NAMESPACE
from tests.ledger import until

_WARMING = 3
_AHEAD = 2 * SLOTS
"""Submitted and not ended: as many wait as run."""
_ASLEEP_SECONDS = 180
_NO_FUNCTIONS = ("", "executor", "setup")


@dataclass(frozen=True, slots=True)
class Site:
    """What every phase on the cluster needs."""

    world: Installation
    floor: Floor
    watch: PodWatch
    servers: str

    async def run(self, tail: Tail, *, is_warm: bool) -> Run:
        """Run one script as a client who has just connected, and return its timeline.

        Raises:
            RuntimeError: It did not complete.
        """
        if is_warm:
            await self._wake_the_gateway()
        client = await self.world.client()
        try:
            return await self._run(client, tail)
        finally:
            client.close()

    async def _wake_the_gateway(self) -> None:
        """Let it be awake after whatever lasted longer than Knative keeps it."""
        client = await self.world.client()
        try:
            await client.get("/auth/me")
        finally:
            client.close()

    async def _run(self, client: Client, tail: Tail) -> Run:
        sent = time()
        execution_id = await client.submit()
        accepted, result_at, status = time(), 0.0, "not told"
        async for message in client.follow(execution_id):
            if message.is_result and not result_at:
                result_at, status = time(), message.json()["status"]
        if status != "completed":
            raise RuntimeError(f"{execution_id} ended as {status}")
        await tail.first(RESULT, execution_id)
        run = Run(execution_id, sent, accepted, result_at)
        run.add(tail.of(execution_id))
        run.add_pod("watch: pod", self.watch.seen[f"exec-{execution_id}"])
        return run


# --- warm -------------------------------------------------------------------------------------


async def warm(site: Site, sizes: Sizes) -> Measured:
    """Measure one client with functions that are awake, in turns with the floor."""
    tail = await Tail.open(site.servers)
    bare: list[tuple[float, Sighting]] = []
    adapter: list[float] = []
    runs: list[Run] = []
    try:
        for number in range(-_WARMING, sizes.warm_rounds):
            pod = await site.floor.bare.run()
            alone = await site.floor.adapter.run()
            run = await site.run(tail, is_warm=True)
            if number >= 0:
                bare.append(pod)
                adapter.append(alone)
                runs.append(run)
    finally:
        await tail.close()
    pods, ours = Sample.of([_seconds(one) for one in bare]), Sample.of([r.seconds for r in runs])
    by_adapter = Sample.of(adapter)
    figure = Figure(
        name="warm: submit to result_stored, p50, beyond the bare pod",
        value=(ours.p50 - pods.p50) * 1e3,
        unit="ms",
        must=400,
        aim=120,
        shown=f"{ours.p50 * 1e3:.0f} ms beside {pods.p50 * 1e3:.0f} ms; by the adapter alone "
        f"{by_adapter.p50 * 1e3:.0f} ms",
    )
    data = {
        "bare": pods.summary(),
        "bare_steps": _of_bare(bare),
        "adapter": by_adapter.summary(),
        "service": ours.summary(),
        "steps": timeline.medians(runs),
    }
    return Measured(data, [figure])


def _seconds(pod: tuple[float, Sighting]) -> float:
    asked_at, seen = pod
    return seen.ended_at - asked_at


def _of_bare(pods: Sequence[tuple[float, Sighting]]) -> dict[str, float]:
    """Return the medians of what a watch shows of bare pods, in milliseconds since the request."""
    return {
        word: round(median(getattr(seen, f"{word}_at") - asked for asked, seen in pods) * 1e3, 1)
        for word in ("made", "bound", "running", "ended")
        if all(getattr(seen, f"{word}_at") for _, seen in pods)
    }


# --- many at once -----------------------------------------------------------------------------


async def pods(site: Site, sizes: Sizes) -> Measured:
    """Measure full slots in turns with a bare client that has as many pods at once.

    The first round of each does not count: what Kafka and the server of documents run on compiles
    itself, and functions wake that sleep also in the profile `warm`.
    """
    rates: dict[str, list[float]] = {"bare": [], "service": []}
    ends: Counter[str] = Counter()
    for _ in range(1 + sizes.pods_rounds):
        bare = site.floor.bare.at_once(SLOTS, sizes.pods_seconds, sizes.pods_ramp)
        rates["bare"].append(await bare)
        rates["service"].append(await _service_rate(site, sizes, ends))
    ours, theirs = (mean(rates[name][1:]) for name in ("service", "bare"))
    figure = Figure(
        name=f"executions a minute, {SLOTS} at once",
        value=ours / theirs,
        unit="of bare pods",
        must=0.7,
        aim=0.95,
        better="more",
        shown=f"{ours * 60:.0f} beside {theirs * 60:.0f}",
    )
    data = {
        "service_per_minute": round(ours * 60, 1),
        "bare_per_minute": round(theirs * 60, 1),
        "rounds_per_minute": {
            name: [round(one * 60, 1) for one in found] for name, found in rates.items()
        },
        "ended": dict(ends),
    }
    return Measured(data, [figure])


async def _service_rate(site: Site, sizes: Sizes, ends: Counter[str]) -> float:
    # No topic more than is looked for: whatever this process reads takes from what is measured.
    tail = await Tail.open(site.servers, (Topic.EXECUTION_RESULTS,))
    clients = [await site.world.client() for _ in range(_AHEAD)]

    def worker(client: Client) -> Any:
        async def run() -> None:
            seen = await tail.first(RESULT, await client.submit(), seconds=120)
            ends[seen.status] += 1
            if seen.status != "completed":
                raise RuntimeError(f"{seen.subject} ended as {seen.status}")

        return run

    try:
        workers = [worker(client) for client in clients]
        rate = await rate_of(workers, sizes.pods_seconds, sizes.pods_ramp)
        await _until_tidy(site)
    finally:
        for client in clients:
            client.close()
        await tail.close()
    return rate


async def _until_tidy(site: Site) -> None:
    """Wait until no pod of a script is left, so that the other kind has the node for itself."""

    async def is_tidy() -> bool:
        return not await asyncio.to_thread(site.world.pods)

    await until(is_tidy, _ASLEEP_SECONDS, "every pod of a script is removed")


# --- from zero --------------------------------------------------------------------------------


async def cold(site: Site, sizes: Sizes) -> Measured:
    """Measure the first execution with everything at zero, the gateway included."""
    tail = await Tail.open(site.servers)
    bare: list[tuple[float, Sighting]] = []
    runs: list[Run] = []
    asleep: list[float] = []
    try:
        for _ in range(sizes.cold_rounds):
            begun = perf_counter()
            await site.world.until_asleep(_ASLEEP_SECONDS)
            asleep.append(perf_counter() - begun)
            bare.append(await site.floor.bare.run())
            run = await site.run(tail, is_warm=False)
            await asyncio.to_thread(_add_functions, site, run)
            runs.append(run)
    finally:
        await tail.close()
    floor, ours = Sample.of([_seconds(one) for one in bare]), Sample.of([r.seconds for r in runs])
    figure = Figure(
        name="everything at zero: the same",
        value=ours.p50 - floor.p50,
        unit="s",
        must=10,
        aim=4,
        shown=f"median {ours.p50:.2f} s, worst {ours.values[-1]:.2f} s of {len(runs)}, beside "
        f"{floor.p50:.2f} s",
    )
    data = {
        "bare": floor.summary(),
        "service": ours.summary(),
        "seconds_until_asleep": [round(one, 1) for one in asleep],
        "steps": timeline.medians(runs),
    }
    return Measured(data, [figure])


def _add_functions(site: Site, run: Run) -> None:
    """Add when the functions' pods were made and ready, and what their processes logged."""
    for pod in site.watch.made_since(run.sent_at):
        if pod.component in _NO_FUNCTIONS:
            continue
        run.add_pod(pod.component, pod)
        container = "gateway" if pod.component == "gateway" else "function"
        log = site.world.kubectl("logs", pod.name, "-n", NAMESPACE, "-c", container)
        for at, message in timeline.log_times(log):
            if "consumes" in message or "is ready" in message:
                run.note(f"{pod.component}: {message}", at)
