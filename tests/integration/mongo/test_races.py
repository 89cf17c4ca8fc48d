"""The one promise that everything stands on: of racing changes exactly one wins, between processes.

A store that fails here is not used, whatever else it can do.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from tests.contract.mongo import MongoDatabase
from tests.integration.mongo import racer

pytestmark = pytest.mark.integration
PROCESSES = 8
EVER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def racers(database: MongoDatabase) -> AsyncIterator[Sequence[Process]]:
    """Return eight processes that wait for the start."""
    options = database.options
    await database(racer.THINGS)
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.integration.mongo.racer"),
            *(options.url, options.database, str(number)),
            stdin=PIPE,
            stdout=PIPE,
        )
        for number in range(PROCESSES)
    ]
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: Process) -> bytes:
    """Return what a process says next."""
    assert process.stdout is not None
    return await process.stdout.readline()


async def run(racers: Sequence[Process]) -> list[int]:
    """Start the next race, and return what each process won."""
    assert await asyncio.gather(*map(line_of, racers)) == [b"ready\n"] * len(racers)
    for process in racers:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    return [int(line) for line in await asyncio.gather(*map(line_of, racers))]


async def empty_while(things: MongoDocuments, racing: asyncio.Task[list[int]]) -> set[str]:
    """Take events off their outbox until a race is over and none is left; return what came out."""
    seen: set[str] = set()
    while True:
        is_last = racing.done()
        found = await things.leftovers(before=EVER, limit=10)
        seen |= {event.id for _, events in found for event in events}
        await things.clear({key: [event.id for event in events] for key, events in found})
        if is_last and not found:
            return seen


@pytest.mark.timeout(180)
async def test_every_race_between_processes_has_one_winner(
    database: MongoDatabase, racers: Sequence[Process]
) -> None:
    """Slots, counters, states, unique values and outboxes are all as if taken one by one."""
    things = await database(racer.THINGS)
    await things.insert("pool", {"holders": {}})
    await things.insert("counter", {"n": 0})
    await things.insert("said", {})
    for number in range(racer.DOCUMENTS):
        await things.insert(f"d{number}", {"status": "queued"})

    slots = await run(racers)
    raised = await run(racers)
    moved = await run(racers)
    stored = await run(racers)
    completed = await run(racers)
    saying = asyncio.create_task(run(racers))
    heard = await empty_while(things, saying)

    pool, counter = await things.get("pool"), await things.get("counter")
    assert pool is not None
    assert counter is not None
    assert (sum(slots), len(pool["holders"]), pool["version"]) == (20, 20, 21)
    assert (sum(raised), counter["n"], counter["version"]) == (400, 400, 401)
    assert (sum(moved), await things.count({"status": "queued"})) == (racer.DOCUMENTS, 0)
    assert sum(stored) == await things.count({"mail": {"$exists": True}}) == racer.DOCUMENTS
    assert sum(completed) == await things.count({"no": {"$exists": True}}) == racer.DOCUMENTS
    assert sum(await saying) == len(heard) == PROCESSES * racer.EVENTS
