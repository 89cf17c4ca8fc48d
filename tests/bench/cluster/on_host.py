"""What is measured with the control plane as processes of this machine."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from time import perf_counter, time
from typing import Any

from shared.events.topics import Topic
from tests.bench.client import Client
from tests.bench.cluster import timeline
from tests.bench.cluster.bare import rate_of
from tests.bench.cluster.hosted import PUMP_READY, PUMPS, ControlPlane
from tests.bench.cluster.sizes import Sizes
from tests.bench.cluster.tail import RESULT, Tail
from tests.bench.cluster.told import Told
from tests.bench.figures import Figure, Sample
from tests.bench.phases import Measured
from tests.ledger import pause

SLOTS, AT_ONCE = 100, 100
_PACE_SECONDS = 0.05
_WARMING = 20
_SAMPLED = 100
SETTINGS = {
    "max_concurrent_executions": str(SLOTS),
    "max_concurrent_per_user": str(SLOTS),
    "queued_per_user": "10000",
}
"""So many slots that they are not what bounds the throughput."""


async def delay(plane: ControlPlane, servers: str, sizes: Sizes) -> Measured:
    """Measure from sending a request until its event is in the topic, at a steady pace.

    That it was sent stands for that it arrived, and that it was read for that it is there: both
    make the figure larger than it is.
    """
    tail = await Tail.open(servers, (Topic.EXECUTION_EVENTS,))
    client = await plane.client()
    found: dict[str, list[float]] = {
        "in_topic": [],
        "decided": [],
        "given_to_kafka": [],
        "answer": [],
    }
    try:
        for number in range(_WARMING + sizes.delay_submits):
            sent = time()
            execution_id = await client.submit()
            answered = time()
            seen = await tail.first("execution.requested", execution_id)
            if number >= _WARMING:
                found["in_topic"].append(seen.seen_at - sent)
                found["decided"].append(seen.said_at - sent)
                found["given_to_kafka"].append(seen.sent_at - sent)
                found["answer"].append(answered - sent)
            await pause(max(0.0, sent + _PACE_SECONDS - time()))
    finally:
        client.close()
        await tail.close()
    samples = {name: Sample.of(values) for name, values in found.items()}
    p99, p50 = samples["in_topic"].percentile(99), samples["in_topic"].p50
    figure = Figure(
        name="event in execution_events after the request, p99",
        value=p99 * 1e3,
        unit="ms",
        must=100,
        aim=30,
        shown=f"p50 {p50 * 1e3:.1f} ms, of {sizes.delay_submits}; answered in "
        f"{samples['answer'].p50 * 1e3:.1f} ms",
    )
    return Measured({name: sample.summary() for name, sample in samples.items()}, [figure])


async def control(plane: ControlPlane, redis_url: str, sizes: Sizes) -> Measured:
    """Measure how many executions a second reach their streams, with pods that take no time."""
    told = await Told.open(redis_url)
    clients = [await plane.client() for _ in range(AT_ONCE)]
    load = _Load(told)
    spent = _Spent(plane)
    try:
        measuring = asyncio.create_task(spent.between(sizes.control_ramp, sizes.control_seconds))
        workers = [load.worker(client) for client in clients]
        rate = await rate_of(workers, sizes.control_seconds, sizes.control_ramp)
        await measuring
        steps = await _steps(clients[0], load.ids)
    finally:
        for client in clients:
            client.close()
        await told.close()
    done = rate * sizes.control_seconds
    cpu = {name: round(used / done * 1e3, 2) for name, used in spent.found.items()}
    waits = Sample.of(load.times)
    figure = Figure(
        name="control plane without pods",
        value=rate,
        unit="/s",
        must=60,
        aim=150,
        better="more",
        shown=f"{AT_ONCE} at once, {SLOTS} slots, to the stream p50 {waits.p50 * 1e3:.0f} ms; "
        f"processor {sum(cpu.values()):.1f} ms each",
    )
    data = {
        "per_second": round(rate, 2),
        "ended": dict(load.ends),
        "to_result": waits.summary(),
        "processor_ms_each": cpu,
        "cores_busy": round(sum(spent.found.values()) / spent.seconds, 2),
        "steps": steps,
    }
    return Measured(data, [figure])


class _Load:
    """Clients that each wait for the result of their last submit, and what came of it."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.ids: list[str] = []
        self.times: list[float] = []
        self.ends: Counter[str] = Counter()

    def worker(self, client: Client) -> Any:
        async def run() -> None:
            begun = perf_counter()
            execution_id = await client.submit()
            status = await self._told.result(execution_id)
            self.times.append(perf_counter() - begun)
            self.ends[status] += 1
            if status != "completed":
                raise RuntimeError(f"{execution_id} ended as {status}")
            self.ids.append(execution_id)

        return run


class _Spent:
    """Processor time of every process in a part of a phase."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.found: dict[str, float] = {}
        self.seconds = 0.0

    async def between(self, ramp: float, seconds: float) -> None:
        await pause(ramp)
        begun, before = perf_counter(), self._plane.cpu_seconds()
        await pause(seconds)
        after = self._plane.cpu_seconds()
        self.seconds = perf_counter() - begun
        self.found = {name: after[name] - before[name] for name in before}


async def _steps(client: Client, ids: Sequence[str]) -> Mapping[str, Any]:
    """Return where the time went under load, by the events of some executions."""
    middle = ids[len(ids) // 4 :][:: max(1, len(ids) // (2 * _SAMPLED))][:_SAMPLED]
    runs = []
    for execution_id in middle:
        events = await client.get(f"/executions/{execution_id}/events?limit=100")
        runs.append(timeline.run_of(execution_id, events))
    return timeline.medians(runs)


async def start(plane: ControlPlane, servers: str, sizes: Sizes) -> Measured:
    """Measure from the spawn of a function's process until it has handled what waited for it."""
    slug = PUMPS[0]
    client, tail = await plane.client(), await Tail.open(servers)
    found: dict[str, list[float]] = {"handled": [], "consumes": []}
    try:
        await plane.stop(slug)
        for number in range(sizes.starts + 1):
            execution_id = await client.submit()
            await tail.first("execution.requested", execution_id)
            handled, consumes = await _start_once(plane, slug, tail, execution_id)
            await tail.first(RESULT, execution_id)
            await plane.stop(slug)
            if number:  # the first finds nothing in the machine's caches
                found["handled"].append(handled)
                found["consumes"].append(consumes)
        plane.spawn_pump(slug)
        await plane.until_said(slug, PUMP_READY)
    finally:
        client.close()
        await tail.close()
    samples = {name: Sample.of(values) for name, values in found.items()}
    handled_sample = samples["handled"]
    figure = Figure(
        name="function process: start to first event handled",
        value=handled_sample.p50,
        unit="s",
        must=1.5,
        aim=0.7,
        shown=f"{slug}, median of {sizes.starts}, worst {handled_sample.values[-1]:.2f} s; its "
        f"engines answer after {samples['consumes'].p50:.2f} s",
    )
    return Measured({name: sample.summary() for name, sample in samples.items()}, [figure])


async def _start_once(
    plane: ControlPlane, slug: str, tail: Tail, execution_id: str
) -> tuple[float, float]:
    begun = time()
    server = plane.spawn_pump(slug)
    seen = await tail.first("execution.scheduled", execution_id)
    logged = timeline.log_times(server.log.read_text(errors="replace"))
    consumes = next(at for at, message in logged if PUMP_READY in message)
    return seen.seen_at - begun, consumes - begun
