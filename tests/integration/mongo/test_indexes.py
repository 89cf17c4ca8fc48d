"""Indexes: made once, left alone, and named where they are not as they should be."""

import asyncio
import random

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.indexes import apply_indexes, drift
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import AlreadyExists
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Collection, Index
from shared.ports.setup import Finding
from tests.contract.mongo import MongoDatabase

pytestmark = pytest.mark.integration
THINGS = Collection(
    "things",
    (
        Index(("status", "rank")),
        Index(("owner", "name"), unique=True),
        Index(("mail",), unique=True),
    ),
)
STATUS = "status_1_rank_1"
OWNER = "owner_1_name_1_incomplete.owner_name_1"
MAIL = "mail_1_incomplete.mail_1"
WAKE_AT = "wake_at_1"


def by_index(findings: list[Finding]) -> dict[str, Finding]:
    """Return what was found of each index of things, by its name."""
    return {one.subject.removeprefix("index things."): one for one in findings}


def states(findings: list[Finding]) -> dict[str, str]:
    """Return how each index is."""
    return {name: finding.state for name, finding in by_index(findings).items()}


@pytest.fixture
def options(database: MongoDatabase) -> MongoOptions:
    """Return where an empty database is."""
    return database.options


async def test_what_is_missing_is_made(options: MongoOptions) -> None:
    """Each index of the collection, and the one by which leftovers are found."""
    made = await apply_indexes(options, [THINGS])

    assert states(made) == dict.fromkeys([STATUS, OWNER, MAIL, WAKE_AT], "made")


async def test_what_is_there_is_left_alone(options: MongoOptions) -> None:
    """A second start finds all as it should be."""
    await apply_indexes(options, [THINGS])

    again = await apply_indexes(options, [THINGS])

    assert set(states(again).values()) == {"same"}


async def test_eight_starts_at_once_are_one(options: MongoOptions) -> None:
    """Functions wake together, and none fails because another was quicker."""
    found = await asyncio.gather(*(apply_indexes(options, [THINGS]) for _ in range(8)))

    assert {finding.state for findings in found for finding in findings} <= {"made", "same"}
    assert set(states(await drift(options, [THINGS])).values()) == {"same"}


async def test_looking_makes_nothing(options: MongoOptions, database: MongoDatabase) -> None:
    """Drift names what is missing, and leaves it so."""
    found = await drift(options, [THINGS])

    assert {(one.state, one.seen) for one in found} == {("differs", "is missing")}
    assert all("indexes apply" in one.remedy for one in found)
    assert await database.store().database.list_collection_names() == []


async def test_an_index_with_other_options_is_named(
    options: MongoOptions, database: MongoDatabase
) -> None:
    """It is not changed under a running system; the remedy says how."""
    await database.store().collection("things").create_index([("wake_at", 1)], name="waking")

    found = by_index(await apply_indexes(options, [THINGS]))

    assert found["waking"].state == "differs"
    assert 'db.things.dropIndex("waking")' in found["waking"].remedy
    assert found[STATUS].state == "made"


async def test_an_older_index_of_the_same_name_is_named(
    options: MongoOptions, database: MongoDatabase
) -> None:
    """An earlier version may have meant other fields by it."""
    await database.store().collection("things").create_index([("status", 1)], name=STATUS)

    found = by_index(await apply_indexes(options, [THINGS]))

    assert found[STATUS].state == "differs"
    assert f'db.things.dropIndex("{STATUS}")' in found[STATUS].remedy
    assert found[OWNER].state == "made"


async def test_an_index_that_was_made_by_hand_is_ours(
    options: MongoOptions, database: MongoDatabase
) -> None:
    """Its name does not matter, what it does matters."""
    collection = database.store().collection("things")
    await collection.create_index([("status", 1), ("rank", 1)], name="by_hand")

    found = states(await apply_indexes(options, [THINGS]))

    assert found["by_hand"] == "same"
    assert STATUS not in found


async def test_an_index_that_nobody_wants_is_named(
    options: MongoOptions, database: MongoDatabase
) -> None:
    """It costs every write; an earlier version may have left it."""
    await apply_indexes(options, [THINGS])
    await database.store().collection("things").create_index([("old", 1)])

    found = by_index(await drift(options, [THINGS]))

    assert (found["old_1"].state, found["old_1"].seen) == ("same", "is none of ours")
    assert 'db.things.dropIndex("old_1")' in found["old_1"].remedy
    assert not found[STATUS].remedy


async def test_documents_that_stand_in_the_way_are_named(
    options: MongoOptions, database: MongoDatabase
) -> None:
    """A unique index cannot be made over two equal values; the others are made all the same."""
    documents = [{"owner": "u", "name": "n"}, {"owner": "u", "name": "n"}]
    await database.store().collection("things").insert_many(documents)

    found = by_index(await apply_indexes(options, [THINGS]))

    assert found[OWNER].state == "differs"
    assert "two documents have the same owner, name" in found[OWNER].seen
    assert found[WAKE_AT].state == "made"


async def test_every_collection_of_ours_gets_its_indexes(options: MongoOptions) -> None:
    """And each the sparse one that the search for leftovers needs."""
    made = await apply_indexes(options, COLLECTIONS.values())

    wanted = sum(len(collection.indexes) + 1 for collection in COLLECTIONS.values())
    assert len(made) == wanted
    assert {one.state for one in made} == {"made"}
    assert set(states(await drift(options, COLLECTIONS.values())).values()) == {"same"}


async def test_a_unique_pair_counts_once_it_is_complete(database: MongoDatabase) -> None:
    """Documents with one field of two stand in nobody's way until they get the other."""
    things = await database(THINGS)
    await things.insert("a", {"owner": "u"})
    await things.insert("b", {"owner": "u"})
    await things.change("a", set={"name": "n"})

    with pytest.raises(AlreadyExists):
        await things.change("b", set={"name": "n"})

    assert await things.change("a", unset=["name"]) is not None
    assert await things.change("b", set={"name": "n"}) is not None
    with pytest.raises(AlreadyExists):
        await things.insert("c", {"owner": "u", "name": "n"})


async def test_a_pair_that_lost_both_fields_counts_no_more(database: MongoDatabase) -> None:
    """None is as good as missing, here as in a filter."""
    things = await database(THINGS)
    for key in "ab":
        await things.insert(key, {"owner": key, "name": "n"})
        await things.change(key, set={"owner": None}, unset=["name"])

    await things.insert("c", {"owner": None, "name": None})
    await things.insert("d", {"owner": None, "name": None})

    assert await things.count({"owner": None}) == 4


async def test_a_unique_field_without_a_value_counts_not(database: MongoDatabase) -> None:
    """None in one document is no obstacle to None in another."""
    things = await database(THINGS)
    await things.insert("a", {"mail": None})
    await things.insert("b", {"mail": None})
    await things.insert("c", {"mail": "x"})

    await things.change("c", set={"mail": None})

    assert await things.count({"mail": None}) == 3


async def test_racing_halves_make_one_whole(database: MongoDatabase) -> None:
    """Two processes that complete two documents to the same pair: one of them is refused."""
    other = MongoStore(database.options)
    first, second = await database(THINGS), MongoDocuments(other, THINGS, SystemClock())
    for number in range(20):
        await first.insert(f"a{number}", {"owner": "u"})
        await first.insert(f"b{number}", {"owner": "u"})

    async def complete(things: MongoDocuments, key: str, name: int) -> int:
        try:
            await things.change(key, set={"name": name})
        except AlreadyExists:
            return 0
        return 1

    won = [
        sum(await asyncio.gather(complete(first, f"a{n}", n), complete(second, f"b{n}", n)))
        for n in range(20)
    ]

    await other.close()
    assert won == [1] * 20


@pytest.mark.parametrize("seed", range(4))
async def test_racing_changes_of_a_pair_leave_it_counted_rightly(
    database: MongoDatabase, seed: int
) -> None:
    """Whoever was last: a document with both fields counts, one that lacks any does not."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible mess
    things = await database(THINGS)
    collection = database.store().collection("things")
    await things.insert("a", {})

    async def change(field: str) -> None:
        if chance.random() < 0.5:
            await things.change("a", unset=[field])
        else:
            await things.change("a", set={field: chance.choice(["x", None])})

    for _ in range(25):
        await asyncio.gather(*(change(field) for field in ("owner", "name") * 2))
        found = await collection.find_one({"_id": "a"}) or {}
        is_whole = found.get("owner") is not None and found.get("name") is not None
        assert ("owner_name" in found.get("incomplete", {})) is not is_whole
