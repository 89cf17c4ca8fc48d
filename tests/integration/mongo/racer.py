"""One of several processes that want the same documents at the same moment.

`python -m tests.integration.mongo.racer URL DATABASE NUMBER` says `ready`, waits for a line, races,
and says what it won, once for each race.
"""

import asyncio
import json
import sys

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import AlreadyExists
from shared.ports.documents import Collection, Index
from tests.integration.mongo.events import event

THINGS = Collection("things", (Index(("mail",), unique=True), Index(("who", "no"), unique=True)))
SLOTS, WANTED, RAISES, DOCUMENTS, EVENTS = 20, 5, 50, 60, 20


async def take_slots(things: MongoDocuments, me: int) -> int:
    """Take as many slots of the pool as wanted, as long as there are any."""
    taken = 0
    while taken < WANTED:
        pool = await things.get("pool")
        if pool is None or len(pool["holders"]) >= SLOTS:
            return taken
        holder = {f"holders.{me}-{taken}": True}
        when = {"version": pool["version"]}
        taken += await things.change("pool", when=when, set=holder) is not None
    return taken


async def raise_counter(things: MongoDocuments, _: int) -> int:
    """Raise one number by compare-and-set, each time until it succeeds."""
    raised = 0
    while raised < RAISES:
        seen = await things.get("counter") or {}
        raised += (
            await things.change("counter", when={"n": seen["n"]}, set={"n": seen["n"] + 1})
            is not None
        )
    return raised


async def move_on(things: MongoDocuments, me: int) -> int:
    """Move every document to its next state, where nobody did yet."""
    moved = [
        await things.change(f"d{number}", when={"status": "queued"}, set={"status": f"by {me}"})
        for number in range(DOCUMENTS)
    ]
    return sum(document is not None for document in moved)


async def insert_unique(things: MongoDocuments, me: int) -> int:
    """Insert values that only one document may have, under keys of our own."""
    stored = 0
    for number in range(DOCUMENTS):
        try:
            await things.insert(f"u{me}-{number}", {"mail": f"{number}@example.org"})
        except AlreadyExists:
            continue
        stored += 1
    return stored


async def complete(things: MongoDocuments, me: int) -> int:
    """Give documents of our own the second field of a pair that only one may have."""
    completed = 0
    for number in range(DOCUMENTS):
        await things.insert(f"p{me}-{number}", {"who": "same"})
        try:
            await things.change(f"p{me}-{number}", set={"no": number})
        except AlreadyExists:
            continue
        completed += 1
    return completed


async def say(things: MongoDocuments, me: int) -> int:
    """Emit events with one document, while another process takes them off."""
    for number in range(EVENTS):
        await things.change("said", set={f"r{me}": number}, emit=[event(me * EVENTS + number)])
    return EVENTS


RACES = (take_slots, raise_counter, move_on, insert_unique, complete, say)


async def main(url: str, database: str, me: int) -> None:
    """Run every race, each from a common start."""
    store = MongoStore(MongoOptions(url=url, database=database))
    things = MongoDocuments(store, THINGS, SystemClock())
    await store.ping()
    for race in RACES:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        sys.stdout.write(json.dumps(await race(things, me)) + "\n")
        sys.stdout.flush()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
