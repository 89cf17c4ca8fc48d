"""What is measured, one function per phase; each returns its raw data and its figures."""

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.bench import history, users
from tests.bench.client import HELLO, Client, Connection, Refused
from tests.bench.figures import Figure, Sample
from tests.bench.floor import Floor, pause
from tests.bench.server import Server
from tests.bench.users import User

_LONG = "import time; time.sleep(600)"
_BLOCK = 10
"""Runs in a row of one kind before the other kind has its turn."""
_ZERO_SECONDS = 60.0
_STREAMS_MUST, _STREAMS_AIM = 1000, 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    """Blocks of floor and blocks of us in a latency phase."""
    parallel_seconds: float
    parallel_rounds: int
    workers: Sequence[int]
    cold_starts: int
    starts: int
    accept_seconds: float
    streams: Sequence[int]
    idle_seconds: float
    history: int


FULL = Sizes(
    rounds=20,
    parallel_seconds=4.0,
    parallel_rounds=3,
    workers=(2, 4, 8),
    cold_starts=7,
    starts=7,
    accept_seconds=6.0,
    streams=(1000, 5000),
    idle_seconds=20.0,
    history=100_000,
)
QUICK = Sizes(
    rounds=3,
    parallel_seconds=1.5,
    parallel_rounds=1,
    workers=(2,),
    cold_starts=1,
    starts=1,
    accept_seconds=1.0,
    streams=(200,),
    idle_seconds=4.0,
    history=2000,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Raw data for the file, and figures for the table."""

    data: Mapping[str, Any]
    figures: Sequence[Figure] = ()


@asynccontextmanager
async def serving(data_dir: Path, **settings: str) -> AsyncIterator[Server]:
    """Run a server; it is killed if the phase fails."""
    named = {f"INTEGR8S_{name.upper()}": value for name, value in settings.items()}
    server = await asyncio.to_thread(Server.start, data_dir, named)
    try:
        yield server
        await asyncio.to_thread(server.stop)
    finally:
        server.end()


async def client_of(server: Server, key: str) -> Client:
    """Connect as a user."""
    return await Client.open(server.host, server.port, key)


# --- one client -------------------------------------------------------------------------------


async def warm(server: Server, user: User, floor: Floor, sizes: Sizes) -> Measured:
    """Measure one client, in turns with the floor."""
    client = await client_of(server, user.key)
    version = floor.interpreter.version
    for _ in range(_BLOCK):
        await client.run(version=version)
    spent = server.cpu_seconds()
    samples = await _in_turns(client, floor, sizes.rounds)
    spent = (server.cpu_seconds() - spent) / (sizes.rounds * (_BLOCK + 1))
    client.close()
    floor_p50, ours = samples["sandboxed"].p50, samples["service"]
    ratio = ours.p50 / floor_p50
    spread = ours.percentile(99) / ours.p50
    figures = [
        Figure(
            name="warm submit to result_stored, p50",
            value=ratio,
            unit="x sandboxed interpreter",
            must=3,
            aim=1.5,
            shown=f"{ours.p50 * 1e3:.1f} ms beside {floor_p50 * 1e3:.1f} ms",
        ),
        Figure(
            name="the same, p99 / p50",
            value=spread,
            unit="x p50",
            must=3,
            aim=2,
            shown=(
                f"p99 {ours.percentile(99) * 1e3:.1f} ms; floor's own spread "
                f"{samples['sandboxed'].percentile(99) / floor_p50:.2f}"
            ),
        ),
    ]
    figures.append(
        Figure(
            name="processor time of the server, a run",
            value=spent * 1e3,
            unit="ms",
            shown=(
                "without the sandbox; one run by the sandbox adapter alone, p50 "
                f"{samples['chain'].p50 * 1e3:.1f} ms"
            ),
        )
    )
    data = {name: one.summary() for name, one in samples.items()}
    return Measured({**data, "server_cpu_seconds_per_run": round(spent, 6)}, figures)


async def _in_turns(client: Client, floor: Floor, rounds: int) -> dict[str, Sample]:
    """Run blocks of each kind, one after the other, so that all share the machine's weather."""
    version = floor.interpreter.version
    found: dict[str, list[float]] = {"bare": [], "sandboxed": [], "chain": [], "service": []}
    for _ in range(rounds):
        # The first after a change of kind meets what the other left running; it is not counted.
        await asyncio.to_thread(floor.sandboxed)
        for _ in range(_BLOCK):
            found["bare"].append(floor.bare())
        for _ in range(_BLOCK):
            found["sandboxed"].append(floor.sandboxed())
        for _ in range(_BLOCK):
            found["chain"].append(await floor.chain())
        await client.run(version=version)
        for _ in range(_BLOCK):
            found["service"].append(await client.run(version=version))
    return {name: Sample.of(values) for name, values in found.items()}


# --- many clients -----------------------------------------------------------------------------


async def throughput(server: Server, known: Sequence[User], floor: Floor, sizes: Sizes) -> Measured:
    """Measure so many parallel clients in turns with so many parallel sandboxed interpreters."""
    data: dict[str, Any] = {}
    figures = []
    for workers in sizes.workers:
        clients = [await client_of(server, user.key) for user in known[:workers]]
        rates: dict[str, list[float]] = {"sandboxed": [], "service": []}
        for _ in range(sizes.parallel_rounds):
            rates["sandboxed"].append(await floor.parallel(workers, sizes.parallel_seconds))
            rates["service"].append(await _rate(clients, sizes.parallel_seconds, floor))
        for client in clients:
            client.close()
        ours, theirs = (sum(rates[name]) / len(rates[name]) for name in ("service", "sandboxed"))
        data[str(workers)] = {
            "service_per_second": round(ours, 2),
            "sandboxed_per_second": round(theirs, 2),
            "share": round(ours / theirs, 3),
            "rounds": {name: [round(one, 2) for one in values] for name, values in rates.items()},
        }
        figures.append(
            Figure(
                name=f"throughput, {workers} clients",
                value=ours / theirs,
                unit="of sandboxed interpreters",
                must=0.5,
                aim=0.7,
                better="more",
                shown=f"{ours:.0f}/s beside {theirs:.0f}/s",
            )
        )
    return Measured(data, figures)


async def _rate(clients: Sequence[Client], seconds: float, floor: Floor) -> float:
    until = perf_counter() + seconds

    async def work(client: Client) -> int:
        runs = 0
        while perf_counter() < until:
            await client.run(version=floor.interpreter.version)
            runs += 1
        return runs

    begun = perf_counter()
    done = await asyncio.gather(*map(work, clients))
    return sum(done) / (perf_counter() - begun)


# --- from zero --------------------------------------------------------------------------------


async def cold(server: Server, user: User, floor: Floor, sizes: Sizes) -> Measured:
    """Measure the first execution with every function at zero, beside a warm one right after it."""
    client = await client_of(server, user.key)
    version = floor.interpreter.version
    first, warmed = [], []
    for _ in range(sizes.cold_starts):
        await all_at_zero(server)
        first.append(await client.run(version=version))
        warmed += [await client.run(version=version) for _ in range(_BLOCK)]
    client.close()
    cold_sample, warm_sample = Sample.of(first), Sample.of(warmed)
    beyond = cold_sample.p50 - warm_sample.p50
    figure = Figure(
        name="first execution from zero, beyond warm",
        value=beyond * 1e3,
        unit="ms",
        must=150,
        aim=40,
        shown=(
            f"median {cold_sample.p50 * 1e3:.1f} ms, worst {cold_sample.values[-1] * 1e3:.1f} ms "
            f"of {len(first)}; warm {warm_sample.p50 * 1e3:.1f} ms"
        ),
    )
    return Measured({"cold": cold_sample.summary(), "warm": warm_sample.summary()}, [figure])


async def all_at_zero(server: Server) -> float:
    """Wait until every function sleeps; return how long that took.

    Raises:
        TimeoutError: Some did not fall asleep.
    """
    begun = perf_counter()
    watch = await Connection.open(server.host, server.port, server.key)
    try:
        async with asyncio.timeout(_ZERO_SECONDS):
            while True:
                shown = (await watch.request("GET", "/api/v1/admin/scaling")).json()
                if not any(function["replicas"] for function in shown["functions"]):
                    return perf_counter() - begun
                await pause(0.1)
    finally:
        watch.close()


async def idle(server: Server, sizes: Sizes) -> Measured:
    """Measure what a system costs that has nothing to do."""
    await all_at_zero(server)
    begun, spent = perf_counter(), server.cpu_seconds()
    await pause(sizes.idle_seconds)
    share = (server.cpu_seconds() - spent) / (perf_counter() - begun)
    memory = server.memory()
    megabyte = 1e6
    figures = [
        Figure(
            name="idle memory of everything",
            value=memory.rss_bytes / megabyte,
            unit="MB",
            must=180,
            aim=100,
            # PSS is kinder, but falls with every other Python that happens to run on the machine.
            shown=f"sum of RSS; sum of PSS {memory.pss_bytes / megabyte:.0f} MB",
        ),
        Figure(
            name="idle processor",
            value=share * 100,
            unit="% of a core",
            must=1,
            aim=0.2,
            shown=f"over {sizes.idle_seconds:.0f} s, all functions at zero",
        ),
    ]
    data = {
        "rss_bytes": memory.rss_bytes,
        "pss_bytes": memory.pss_bytes,
        "pss_by_command": dict(memory.processes),
        "cpu_share": round(share, 6),
        "seconds": sizes.idle_seconds,
    }
    return Measured(data, figures)


async def start_up(data_dir: Path, sizes: Sizes) -> Measured:
    """Measure from the spawn of `integr8s up` until it takes requests, and its stop."""
    fresh: list[float] = []
    again: list[float] = []
    stops: list[float] = []
    for _ in range(sizes.starts):
        with tempfile.TemporaryDirectory(prefix="i8s-bench-", dir=data_dir.parent) as folder:
            for times in (fresh, again):
                server = await asyncio.to_thread(Server.start_by_command, Path(folder) / "data")
                times.append(server.seconds_to_ready)
                stops.append(await asyncio.to_thread(server.stop))
    new, known = Sample.of(fresh), Sample.of(again)
    figure = Figure(
        name="integr8s up to ready",
        value=known.p50,
        unit="s",
        must=3,
        aim=1,
        shown=f"median; on a new data directory {new.p50:.2f} s, to stop {max(stops):.2f} s",
    )
    data = {
        "known_directory": known.summary(),
        "new_directory": new.summary(),
        "stop": Sample.of(stops).summary(),
    }
    return Measured(data, [figure])


# --- the queue --------------------------------------------------------------------------------


async def accepting(folder: Path, floor: Floor, sizes: Sizes, *, is_running: bool) -> Measured:
    """Measure accepted submissions a second, the slots running hello-world or all taken."""
    data_dir = folder / ("accepting-running" if is_running else "accepting-waiting")
    # Many at once, as a burst is: a few that wait for each answer would measure latency.
    senders, per_sender = 8, 8
    known = await users.add(data_dir, senders + 1)
    async with serving(
        data_dir, queue_length="1000000", queued_per_user="1000000", max_concurrent_per_user="10"
    ) as server:
        blocker = await client_of(server, known[-1].key)
        if not is_running:
            for _ in range(10):
                await blocker.submit(_LONG, timeout_seconds=300)
            await _until_running(server, 10)
        connections = [
            await Connection.open(server.host, server.port, user.key)
            for user in known[:senders]
            for _ in range(per_sender)
        ]
        counted, times, seconds = await _submit_all(connections, floor, sizes.accept_seconds)
        for connection in connections:
            connection.close()
        blocker.close()
        server.kill()  # nobody waits for what is queued
    rate = counted[200] / seconds
    how = "while hello-worlds run" if is_running else "all slots taken"
    sample = Sample.of(times)
    figure = Figure(
        name=f"accepted submissions, {how}",
        value=rate,
        unit="/s",
        must=300,
        aim=1000,
        better="more",
        shown=f"{counted[200]} in {seconds:.1f} s, p99 {sample.percentile(99) * 1e3:.1f} ms",
    )
    refused = {str(status): n for status, n in counted.items() if status != 200}
    data = {"per_second": round(rate, 1), "answer": sample.summary(), "refused": refused}
    return Measured(data, [figure])


async def _until_running(server: Server, wanted: int) -> None:
    watch = await client_of(server, server.key)
    async with asyncio.timeout(_ZERO_SECONDS):
        while (await watch.get("/admin/executions/queue"))["active_count"] < wanted:
            await pause(0.05)
    watch.close()


async def _submit_all(
    connections: Sequence[Connection], floor: Floor, seconds: float
) -> tuple[Counter[int], list[float], float]:
    body = {"script": HELLO, "lang": "python", "lang_version": floor.interpreter.version}
    counted: Counter[int] = Counter()
    times: list[float] = []
    until = perf_counter() + seconds

    async def send(connection: Connection) -> None:
        while (begun := perf_counter()) < until:
            answer = await connection.request("POST", "/api/v1/execute", body)
            times.append(perf_counter() - begun)
            counted[answer.status] += 1

    begun = perf_counter()
    await asyncio.gather(*map(send, connections))
    return counted, times, perf_counter() - begun


# --- streams ----------------------------------------------------------------------------------


async def streams(folder: Path, wanted: int, floor: Floor) -> Measured:
    """Open so many streams on waiting executions, let those run, and count who saw the result."""
    per_user = 10
    data_dir = folder / f"streams-{wanted}"
    known = await users.add(data_dir, wanted // per_user + 1)
    async with (
        serving(data_dir, queue_length="1000000", max_concurrent_per_user="10") as server,
        AsyncExitStack() as stack,
    ):
        before = server.memory()
        blocker = await client_of(server, known[-1].key)
        stack.callback(blocker.close)
        blocking = [await blocker.submit(_LONG, timeout_seconds=300) for _ in range(10)]
        await _until_running(server, 10)
        watchers = [
            _Watcher(execution_id, user.key)
            for user in known[:-1]
            for execution_id in [await _submit_once(server, user, floor)]
            for _ in range(per_user)
        ]
        begun = perf_counter()
        tasks = await _open_all(server, watchers, stack)
        opened = perf_counter() - begun
        during = server.memory()
        spent, begun = server.cpu_seconds(), perf_counter()
        for execution_id in blocking:
            await blocker.requests.request("POST", f"/api/v1/executions/{execution_id}/cancel")
        await asyncio.wait(tasks, timeout=180)
        drained = perf_counter() - begun
        used = server.cpu_seconds() - spent
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        data = _followed(watchers) | {
            "open_seconds": round(opened, 2),
            "run_seconds": round(drained, 2),
            "server_cpu_seconds": round(used, 2),
            "bytes_per_stream": (during.pss_bytes - before.pss_bytes) // wanted,
        }
        server.kill()
    return Measured(data, [_streams_figure(data, wanted)])


def _streams_figure(data: Mapping[str, Any], wanted: int) -> Figure:
    return Figure(
        name=f"open streams, {wanted} wanted",
        value=data["complete"],
        unit="streams",
        must=_STREAMS_MUST if wanted >= _STREAMS_MUST else None,
        aim=_STREAMS_AIM if wanted >= _STREAMS_MUST else None,
        better="more",
        shown=(
            f"saw their result without a gap; {data['executions']} executions in "
            f"{data['run_seconds']} s; last of 10 watchers {data['spread_ms']['p99']:.0f} ms "
            f"after the first; {data['bytes_per_stream'] / 1000:.0f} kB a stream"
        ),
    )


class _Watcher:
    """One stream, and what it saw."""

    def __init__(self, execution_id: str, key: str) -> None:
        self.execution_id, self.key = execution_id, key
        self.is_open = asyncio.Event()
        self.numbers: list[int] = []
        self.result_at: float | None = None
        self.failure = ""

    async def watch(self, connection: Connection) -> None:
        """Follow to the end."""
        groups = "execution,pod,result,output,saga"
        path = f"/api/v1/events/executions/{self.execution_id}?include={groups}"
        try:
            async for message in connection.stream(path):
                self.is_open.set()
                if message.name == "message" and message.id is not None:
                    self.numbers.append(int(message.id))
                if message.is_result:
                    self.result_at = perf_counter()
        except (OSError, Refused, ValueError) as error:
            self.failure = str(error)
        self.is_open.set()

    @property
    def is_complete(self) -> bool:
        """Say whether it saw every number once, in order, to the result."""
        return self.result_at is not None and self.numbers == list(range(1, len(self.numbers) + 1))


async def _submit_once(server: Server, user: User, floor: Floor) -> str:
    client = await client_of(server, user.key)
    try:
        return await client.submit(version=floor.interpreter.version)
    finally:
        client.close()


async def _open_all(
    server: Server, watchers: Sequence[_Watcher], stack: AsyncExitStack
) -> list[asyncio.Task[None]]:
    """Open all streams, some at a time, and wait until each has its first message."""
    tasks = []
    for first in range(0, len(watchers), 100):
        batch = watchers[first : first + 100]
        for watcher in batch:
            connection = await Connection.open(server.host, server.port, watcher.key)
            stack.callback(connection.close)
            tasks.append(asyncio.create_task(watcher.watch(connection)))
        async with asyncio.timeout(_ZERO_SECONDS):
            for watcher in batch:
                await watcher.is_open.wait()
    return tasks


def _followed(watchers: Sequence[_Watcher]) -> dict[str, Any]:
    by_execution: dict[str, list[float]] = {}
    for watcher in watchers:
        if watcher.result_at is not None:
            by_execution.setdefault(watcher.execution_id, []).append(watcher.result_at)
    spread = [max(times) - min(times) for times in by_execution.values()] or [0.0]
    failures = Counter(watcher.failure for watcher in watchers if watcher.failure)
    return {
        "wanted": len(watchers),
        "complete": sum(watcher.is_complete for watcher in watchers),
        "with_result": sum(watcher.result_at is not None for watcher in watchers),
        "executions": len({watcher.execution_id for watcher in watchers}),
        "messages": sum(len(watcher.numbers) for watcher in watchers),
        "spread_ms": Sample.of(spread).summary(),
        "failures": dict(failures.most_common(5)),
    }


# --- history ----------------------------------------------------------------------------------


async def old_age(folder: Path, floor: Floor, sizes: Sizes) -> Measured:
    """Compare two servers in turns: one at the beginning of its life, one with a long history."""
    young_dir, old_dir = folder / "young", folder / "old"
    (user,) = await users.add(young_dir, 1)
    async with serving(young_dir) as server:
        template = await _finished(server, user, floor)
    shutil.copytree(young_dir, old_dir, ignore=shutil.ignore_patterns("*.sock", "*.pid"))
    begun = perf_counter()
    size = await asyncio.to_thread(history.fill, old_dir, template, sizes.history)
    filled = perf_counter() - begun
    async with serving(young_dir) as young, serving(old_dir) as old:
        samples, cpu = await _ages_in_turns(young, old, user, floor, sizes)
        client = await client_of(old, user.key)
        total = (await client.get("/user/executions?limit=1"))["total"]
        client.close()
        memory = {"young": young.memory().pss_bytes, "old": old.memory().pss_bytes}
        ready = {"young": young.seconds_to_ready, "old": old.seconds_to_ready}
    if total < sizes.history:
        raise RuntimeError(f"the history has {total} executions instead of {sizes.history}")
    figure = Figure(
        name=f"p50 after {sizes.history} executions",
        value=samples["old"].p50 / samples["young"].p50,
        unit="x p50 of a new one",
        must=1.2,
        aim=1.1,
        shown=(
            f"{samples['old'].p50 * 1e3:.1f} ms beside {samples['young'].p50 * 1e3:.1f} ms; "
            f"processor {cpu['old'] * 1e3:.1f} and {cpu['young'] * 1e3:.1f} ms a run; "
            f"{size / 1e9:.1f} GB, up in {ready['old']:.2f} s, {memory['old'] / 1e6:.0f} MB"
        ),
    )
    data = {
        "executions": total,
        "database_bytes": size,
        "fill_seconds": round(filled, 1),
        "ready_seconds": ready,
        "pss_bytes": memory,
        "server_cpu_seconds_per_run": cpu,
        **{name: sample.summary() for name, sample in samples.items()},
    }
    return Measured(data, [figure])


async def _finished(server: Server, user: User, floor: Floor) -> str:
    """Run a script, wait until its saga is over too, and return the id of its execution."""
    client = await client_of(server, user.key)
    with contextlib.closing(client):
        execution_id = await client.submit(version=floor.interpreter.version)
        async with asyncio.timeout(_ZERO_SECONDS):
            while True:
                events = await client.get(f"/executions/{execution_id}/events?limit=100")
                if any(event["event_type"] == "saga.completed" for event in events):
                    return execution_id
                await pause(0.05)


async def _ages_in_turns(
    young: Server, old: Server, user: User, floor: Floor, sizes: Sizes
) -> tuple[dict[str, Sample], dict[str, float]]:
    found: dict[str, list[float]] = {"young": [], "old": []}
    cpu = dict.fromkeys(found, 0.0)
    servers = {"young": young, "old": old}
    clients = {name: await client_of(server, user.key) for name, server in servers.items()}
    version = floor.interpreter.version
    for _ in range(sizes.rounds + 1):
        for name, client in clients.items():
            await client.run(version=version)
            spent = servers[name].cpu_seconds()
            found[name] += [await client.run(version=version) for _ in range(_BLOCK)]
            cpu[name] += servers[name].cpu_seconds() - spent
    for client in clients.values():
        client.close()
    # The first block of each warmed it up; its share of the processor time stays small.
    samples = {name: Sample.of(values[_BLOCK:]) for name, values in found.items()}
    return samples, {name: round(cpu[name] / len(found[name]), 6) for name in found}
