"""Outboxes inside documents: nothing is lost, nothing is left without its time of waking."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.outbox import partial_clearings
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.virtual.clock import VirtualClock
from shared.domain.errors import TemporaryError
from shared.events.codec import decode
from shared.events.event import Event
from shared.ports.documents import Collection
from shared.ports.event_log import TopicPartition
from shared.runtime.outbox import Outbox
from tests.contract.mongo import MongoDatabase
from tests.integration.mongo.events import event

pytestmark = pytest.mark.integration
EVER = datetime(2100, 1, 1, tzinfo=UTC)
THINGS = Collection("things")


@pytest.fixture
async def things(database: MongoDatabase) -> MongoDocuments:
    """Return an empty collection."""
    return await database(THINGS)


async def stored(database: MongoDatabase, key: str) -> dict[str, Any]:
    """Return a document as the server has it."""
    found = await database.store().collection("things").find_one({"_id": key})
    assert found is not None
    return found


async def sent_of(things: MongoDocuments) -> dict[str, list[Event]]:
    """Return what waits in every outbox."""
    return {key: list(events) for key, events in await things.leftovers(before=EVER, limit=1000)}


class LaterClock(SystemClock):
    """The clock of somebody who looks a while after everything was written."""

    def now(self) -> datetime:
        """Return the instant eleven seconds from now."""
        return super().now() + timedelta(seconds=11)


# --- in the document ----------------------------------------------------------------------------


async def test_events_and_their_waking_are_in_the_document(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """One write holds state, events and the time at which KEDA's query finds them."""
    before = SystemClock().now()
    await things.insert("a", {"n": 1}, emit=[event(1)])
    await things.change("a", set={"n": 2}, emit=[event(2)])
    after = SystemClock().now()

    found = await stored(database, "a")
    assert [entry["id"] for entry in found["outbox"]] == [event(1).id, event(2).id]
    assert found["outbox"][0]["headers"]["ce_type"] == "execution.cancel_requested"
    waking = found["wake_at"] - timedelta(seconds=10)
    assert before - timedelta(milliseconds=1) <= waking <= after


async def test_readers_see_nothing_of_it(things: MongoDocuments) -> None:
    """What a call returns is what its writers chose, whichever call it is."""
    inserted = await things.insert("a", {"n": 1}, emit=[event(1)])
    changed = await things.change("a", set={"n": 2}, emit=[event(2)])

    found = [inserted, changed, await things.get("a"), *await things.find()]

    assert [sorted(document or {}) for document in found] == [["_id", "n", "version"]] * 4


async def test_an_outbox_that_is_empty_leaves_no_trace(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """Neither an empty list nor a time at which somebody would look in vain."""
    await things.insert("a", {}, emit=[event(1), event(2)])
    await things.insert("b", {}, emit=[event(3)])

    await things.clear({"a": [event(1).id, event(2).id], "b": [event(3).id]})

    assert set(await stored(database, "a")) == {"_id", "version"}
    assert set(await stored(database, "b")) == {"_id", "version"}


async def test_a_part_that_is_sent_leaves_the_rest_to_be_found(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """The document keeps the other event, and the time of waking."""
    await things.insert("a", {}, emit=[event(1), event(2)])

    await things.clear({"a": [event(1).id]})

    assert {"outbox", "wake_at"} < set(await stored(database, "a"))
    assert await sent_of(things) == {"a": [event(2)]}


async def test_an_event_that_was_said_twice_is_cleared_at_once(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """A redelivery says the same event again; sent is sent."""
    await things.insert("a", {}, emit=[event(1)])
    await things.change("a", emit=[event(1)])

    await things.clear({"a": [event(1).id, event(1).id]})

    assert set(await stored(database, "a")) == {"_id", "version"}


async def test_one_event_that_is_cleared_twice_takes_no_other_along(
    things: MongoDocuments,
) -> None:
    """Two ids of one event are no proof that both events of the outbox were sent."""
    await things.insert("a", {}, emit=[event(1), event(2)])

    await things.clear({"a": [event(1).id, event(1).id]})

    assert await sent_of(things) == {"a": [event(2)]}


async def test_a_change_between_the_two_halves_of_clearing_keeps_its_event(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """The outbox was empty for a moment; the second half looks again, and finds it is not."""
    await things.insert("a", {}, emit=[event(1)])
    collection = database.store().collection("things")
    pull, forget = partial_clearings({"a": [event(1).id]})

    await collection.bulk_write([pull])
    await things.change("a", emit=[event(2)])
    await collection.bulk_write([forget])

    assert {"outbox", "wake_at"} < set(await stored(database, "a"))
    assert await sent_of(things) == {"a": [event(2)]}


async def test_a_clearing_that_died_half_way_is_finished_by_the_sweep(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """An empty outbox with a time of waking is found as any leftover, and forgotten."""
    await things.insert("a", {}, emit=[event(1)])
    pull, _ = partial_clearings({"a": [event(1).id]})
    await database.store().collection("things").bulk_write([pull])
    outbox, _, store = await later_outbox(things)

    swept = await outbox.sweep()

    await store.close()
    assert swept == 0
    assert set(await stored(database, "a")) == {"_id", "version"}


async def test_an_event_of_another_version_waits_for_it(things: MongoDocuments) -> None:
    """What this version does not understand is neither published, nor in the way of the others."""
    await things.insert("a", {}, emit=[event(1), event(2)])
    await things._collection.update_one(
        {"_id": "a"}, {"$set": {"outbox.0.headers.ce_type": "execution.of_tomorrow"}}
    )

    assert await sent_of(things) == {"a": [event(2)]}


async def test_a_document_goes_once_its_events_are_published(things: MongoDocuments) -> None:
    """It would take them along; until then a deletion may succeed later."""
    await things.insert("a", {"n": 1}, emit=[event(1)])
    with pytest.raises(TemporaryError, match="published"):
        await things.delete("a")
    assert not await things.delete("a", when={"n": 2})

    await things.clear({"a": [event(1).id]})

    assert await things.delete("a")


# --- racing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_racing_changes_and_clearings_lose_nothing(
    database: MongoDatabase, things: MongoDocuments, seed: int
) -> None:
    """Whatever the order: every event comes out, and waking times stand where events are."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible mess
    await things.insert("a", {})
    said: set[str] = set()
    published: set[str] = set()
    torn: list[dict[str, Any]] = []

    async def change(racer: int) -> None:
        for number in range(25):
            first = racer * 1000 + number * 10
            emit = [event(first + one) for one in range(chance.randrange(3))]
            said.update(one.id for one in emit)
            await things.change("a", set={f"r{racer}": number}, emit=emit)

    async def clear(share: float) -> None:
        for key, events in await things.leftovers(before=EVER, limit=10):
            some = [one.id for one in events if chance.random() < share]
            published.update(some)
            await things.clear({key: some})

    async def clear_some() -> None:
        for _ in range(25):
            await clear(0.7)

    async def look() -> None:
        for _ in range(100):
            found = await stored(database, "a")
            if ("outbox" in found) is not ("wake_at" in found):
                torn.append(found)

    await asyncio.gather(*(change(racer) for racer in range(4)), clear_some(), clear_some(), look())
    await clear(1.0)

    found = await stored(database, "a")
    assert published == said
    assert torn == []
    assert {"outbox", "wake_at"}.isdisjoint(found)
    assert found["version"] == 101


# --- crashes ------------------------------------------------------------------------------------

CRASHING = """
import asyncio, os, sys
from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.ports.documents import Collection
from tests.integration.mongo.events import event

async def main():
    store = MongoStore(MongoOptions(url=sys.argv[1], database=sys.argv[2]))
    things = MongoDocuments(store, Collection("things"), SystemClock())
    await things.insert("a", {"n": 0}, emit=[event(0), event(1)])
    for number in range(2, 6):
        await things.change("a", set={"n": number}, emit=[event(number)])
    await things.insert("b", {}, emit=[event(6, "e2")])
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def later_outbox(
    things: MongoDocuments,
) -> tuple[Outbox, SqliteEventLog, SqliteStore]:
    """Return the outbox of a process that looks after leftovers, its log, and the log's store."""
    store = SqliteStore()
    clock = LaterClock()
    log = SqliteEventLog(store, clock)
    outbox = Outbox(log, clock, {"things": things}.__getitem__)
    outbox.documents("things")
    return outbox, log, store


async def logged(log: SqliteEventLog, subject: str) -> Sequence[Event]:
    """Return what the log holds about one subject, in its order."""
    events = [
        decode(record.key, record.headers, record.value)
        for place in await log.positions("", [event(0).topic])
        for record in await log.read(TopicPartition(*place), offset=0, limit=100)
    ]
    return [event for event in events if event.subject == subject]


async def test_what_a_killed_process_left_is_published_in_order(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """It wrote, died before it could publish anything, and nothing is missing or twice."""
    options = database.options
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASHING, options.url, options.database, stderr=PIPE
    )
    _, complaint = await dying.communicate()
    assert dying.returncode == -9, complaint
    outbox, log, store = await later_outbox(things)

    swept = await outbox.sweep()

    said = [await logged(log, "e1"), await logged(log, "e2")]
    again = await outbox.sweep()
    await store.close()
    assert (swept, again) == (7, 0)
    assert said == [[event(number) for number in range(6)], [event(6, "e2")]]
    assert set(await stored(database, "a")) == {"_id", "version", "n"}


async def test_what_waits_longest_comes_first(database: MongoDatabase) -> None:
    """A page of leftovers is the oldest, however they lie in the store."""
    clock = VirtualClock()
    things = MongoDocuments(database.store(), THINGS, clock)
    await things.insert("b", {}, emit=[event(1)])
    await things.insert("a", {}, emit=[event(2)])
    await clock.advance(timedelta(seconds=1))
    await things.change("b", emit=[event(3)])

    found = await things.leftovers(before=EVER, limit=1)

    assert [key for key, _ in found] == ["a"]


async def test_nobody_looks_at_what_was_written_just_now(things: MongoDocuments) -> None:
    """Its writer is about to publish it; the sweep of another process leaves it alone."""
    await things.insert("a", {}, emit=[event(1)])

    found = await things.leftovers(before=SystemClock().now() - timedelta(seconds=10), limit=10)

    assert found == []


async def test_kedas_query_finds_what_is_overdue_and_nothing_else(
    database: MongoDatabase, things: MongoDocuments
) -> None:
    """The query by which fire-timers is woken counts just the documents of crashed writers."""
    await things.insert("fresh", {}, emit=[event(1)])
    await things.insert("quiet", {})
    await things.insert("left", {}, emit=[event(2)])
    collection = database.store().collection("things")
    overdue = SystemClock().now() - timedelta(seconds=1)
    await collection.update_one({"_id": "left"}, {"$set": {"wake_at": overdue}})
    query = {"wake_at": {"$exists": True}, "$expr": {"$lte": ["$wake_at", "$$NOW"]}}

    found = await collection.find(query).to_list()

    assert [document["_id"] for document in found] == ["left"]
