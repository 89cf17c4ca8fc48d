"""What every adapter of Documents promises, told by the port's own words."""

import asyncio
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shared.domain.errors import AlreadyExists
from shared.domain.identifiers import derived_id
from shared.events.event import Event
from shared.events.executions import ExecutionCancelRequested
from shared.ports.documents import Collection, Document, Documents, Filter, Index
from tests.contract.engines import DocumentsFactory, OutboxedDocuments

RACERS = 8
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
THINGS = Collection(
    "things",
    (
        Index(("status", "rank")),
        Index(("owner", "name"), unique=True),
        Index(("mail",), unique=True),
    ),
)
MISSING = object()


@pytest.fixture
async def things(documents_factory: DocumentsFactory) -> OutboxedDocuments:
    """Return an empty collection with two unique indexes."""
    return await documents_factory(THINGS)


def event(number: int, subject: str = "e1") -> Event:
    """Return one event of many."""
    return Event(
        id=derived_id(subject, str(number)),
        source="/integr8s/gateway",
        subject=subject,
        time=NOW + timedelta(milliseconds=number),
        data=ExecutionCancelRequested(
            execution_id=subject, user_id="u1", cancelled_by="u1", reason=f"wörd {number}"
        ),
        correlation_id="c1",
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        causation_id="cause",
    )


async def race(act: Callable[[int], Awaitable[int]]) -> list[int]:
    """Run the same act in eight tasks at once; return what each of them won."""
    return await asyncio.gather(*(act(racer) for racer in range(RACERS)))


async def outbox_of(documents: OutboxedDocuments) -> dict[str, list[Event]]:
    """Return every undelivered event by document."""
    found = await documents.leftovers(before=datetime(2100, 1, 1, tzinfo=UTC), limit=10_000)
    return {key: list(events) for key, events in found if events}


def plain(document: Document | None) -> Document | None:
    """Return the part of a document that its writer chose."""
    if document is None:
        return None
    return {k: v for k, v in document.items() if k not in {"_id", "version", "outbox"}}


# --- racing -------------------------------------------------------------------------------------


async def test_racing_takers_fill_every_slot_and_not_one_more(things: OutboxedDocuments) -> None:
    """Eight tasks that want five slots each take exactly the twenty that there are."""
    await things.insert("pool", {"holders": {}})

    async def take(holder: str) -> int:
        while (pool := await things.get("pool")) is not None and len(pool["holders"]) < 20:
            taken = await things.change(
                "pool", when={"version": pool["version"]}, set={f"holders.{holder}": {"cpu": 1}}
            )
            if taken is not None:
                return 1
        return 0

    async def take_five(racer: int) -> int:
        return sum([await take(f"{racer}-{turn}") for turn in range(5)])

    won = await race(take_five)

    pool = await things.get("pool")
    assert pool is not None
    assert (sum(won), len(pool["holders"]), pool["version"]) == (20, 20, 21)


async def test_no_increment_is_lost(things: OutboxedDocuments) -> None:
    """Eight tasks raise one number fifty times each, by compare-and-set, to four hundred."""
    await things.insert("counter", {"n": 0})

    async def raise_once() -> int:
        while True:
            seen = await things.get("counter")
            assert seen is not None
            if await things.change(
                "counter", when={"version": seen["version"]}, set={"n": seen["n"] + 1}
            ):
                return 1

    async def raise_fifty(_: int) -> int:
        return sum([await raise_once() for _ in range(50)])

    won = await race(raise_fifty)

    counter = await things.get("counter")
    assert counter is not None
    assert (sum(won), counter["n"], counter["version"]) == (400, 400, 401)


async def test_a_compare_and_set_is_won_once(things: OutboxedDocuments) -> None:
    """Of eight tasks that move the same fifty documents on, each document obeys one."""
    for number in range(50):
        await things.insert(str(number), {"status": "queued"})

    async def move_all(racer: int) -> int:
        moved = [
            await things.change(
                str(number), when={"status": "queued"}, set={"status": "taken", "by": racer}
            )
            for number in range(50)
        ]
        return sum(document is not None for document in moved)

    won = await race(move_all)

    assert sum(won) == 50
    assert await things.count({"status": "taken", "version": 2}) == 50


async def test_a_key_is_inserted_once(things: OutboxedDocuments) -> None:
    """Of eight tasks that insert the same fifty keys, each key is one task's."""

    async def insert(number: int, racer: int) -> int:
        try:
            await things.insert(str(number), {"by": racer})
        except AlreadyExists:
            return 0
        return 1

    async def insert_all(racer: int) -> int:
        return sum([await insert(number, racer) for number in range(50)])

    won = await race(insert_all)

    assert (sum(won), await things.count()) == (50, 50)


async def test_a_unique_value_is_inserted_once(things: OutboxedDocuments) -> None:
    """Of eight tasks that insert one value under keys of their own, one succeeds."""

    async def insert(racer: int) -> int:
        try:
            await things.insert(f"key-{racer}", {"mail": "a@example.org"})
        except AlreadyExists:
            return 0
        return 1

    won = await race(insert)

    assert (sum(won), await things.count()) == (1, 1)


async def test_two_views_see_one_collection(documents_factory: DocumentsFactory) -> None:
    """A reader that follows a finished call sees it, also through another view."""
    writer, reader = await documents_factory(THINGS), await documents_factory(THINGS)

    await writer.insert("a", {"n": 1})
    await writer.change("a", set={"n": 2})

    assert plain(await reader.get("a")) == {"n": 2}


async def test_collections_are_apart(documents_factory: DocumentsFactory) -> None:
    """A key of one collection says nothing about another."""
    one = await documents_factory(Collection("ones"))
    two = await documents_factory(Collection("twos"))

    await one.insert("a", {"n": 1})

    assert await two.get("a") is None
    assert await two.count() == 0


async def test_what_was_answered_survives_a_kill(documents_factory: DocumentsFactory) -> None:
    """Inserts, changes, deletions and outboxes that were answered are there after a crash."""
    before = await documents_factory(THINGS)
    await before.insert("a", {"n": 1}, emit=[event(1)])
    await before.insert("b", {"n": 1})
    await before.change("a", set={"n": 2}, emit=[event(2)])
    await before.delete("b")

    await documents_factory.kill()

    after = await documents_factory(THINGS)
    assert plain(await after.get("a")) == {"n": 2}
    assert await after.get("b") is None
    assert await outbox_of(after) == {"a": [event(1), event(2)]}


async def test_flush_returns(things: OutboxedDocuments) -> None:
    """A flush right after a write, and one with nothing to do, both come back."""
    await things.insert("a", {"n": 1})

    await things.flush()
    await things.flush()

    assert await things.count() == 1


# --- writing ------------------------------------------------------------------------------------


async def test_insert_starts_at_version_one(things: OutboxedDocuments) -> None:
    """A new document has version 1, whatever its writer says."""
    inserted = await things.insert("a", {"n": 1, "version": 77})

    assert inserted["version"] == 1
    assert await things.get("a") == inserted


async def test_many_are_stored_in_order_up_to_the_first_that_is_taken(things: Documents) -> None:
    """What stands behind it is not stored, so that numbered things get no gap."""
    await things.insert("c", {"n": 0})

    stored = await things.insert_all([(key, {"n": n}) for n, key in enumerate("abcd", start=1)])

    found = await things.find(sort=[("n", 1)])
    assert stored == 2
    assert [(one["_id"], one["n"], one["version"]) for one in found] == [
        ("c", 0, 1),
        ("a", 1, 1),
        ("b", 2, 1),
    ]


async def test_a_taken_key_leaves_nothing(things: OutboxedDocuments) -> None:
    """An insert under a taken key changes nothing and says nothing."""
    await things.insert("a", {"n": 1})

    with pytest.raises(AlreadyExists):
        await things.insert("a", {"n": 2}, emit=[event(1)])

    assert plain(await things.get("a")) == {"n": 1}
    assert await outbox_of(things) == {}


async def test_a_taken_unique_value_leaves_nothing(things: OutboxedDocuments) -> None:
    """An insert that a unique index refuses changes nothing and says nothing."""
    await things.insert("a", {"owner": "u", "name": "n"})

    with pytest.raises(AlreadyExists):
        await things.insert("b", {"owner": "u", "name": "n"}, emit=[event(1)])

    assert await things.get("b") is None
    assert await outbox_of(things) == {}


async def test_change_raises_the_version_and_returns_what_is_stored(
    things: OutboxedDocuments,
) -> None:
    """The answer of a change is the document as a reader sees it."""
    await things.insert("a", {"n": 1})

    changed = await things.change("a", set={"n": 2})

    assert changed is not None
    assert changed["version"] == 2
    assert await things.get("a") == changed


async def test_a_change_that_comes_second_does_nothing(things: OutboxedDocuments) -> None:
    """Where `when` does not match, nothing is written, nothing is said, and None is the answer."""
    await things.insert("a", {"status": "done"})

    answer = await things.change(
        "a", when={"status": "queued"}, set={"status": "taken"}, emit=[event(1)]
    )

    found = await things.get("a")
    assert answer is None
    assert found is not None
    assert (plain(found), found["version"]) == ({"status": "done"}, 1)
    assert await outbox_of(things) == {}


async def test_changing_what_is_missing_makes_nothing(things: OutboxedDocuments) -> None:
    """A change of an unknown key is None, also with a filter that matches missing fields."""
    assert await things.change("a", set={"n": 1}, emit=[event(1)]) is None
    assert await things.change("a", when={"n": None}, set={"n": 1}) is None

    assert await things.count() == 0


async def test_a_change_that_a_unique_index_refuses_leaves_nothing(
    things: OutboxedDocuments,
) -> None:
    """The document keeps fields, version and outbox, and stays usable."""
    await things.insert("a", {"mail": "a@example.org"})
    await things.insert("b", {"mail": "b@example.org"})

    with pytest.raises(AlreadyExists):
        await things.change("b", set={"mail": "a@example.org", "n": 1}, emit=[event(1)])

    found = await things.get("b")
    assert found is not None
    assert (plain(found), found["version"]) == ({"mail": "b@example.org"}, 1)
    assert await outbox_of(things) == {}
    assert await things.change("b", set={"n": 2}) is not None


async def test_a_refusal_does_not_harm_its_neighbours(things: OutboxedDocuments) -> None:
    """Writes that were under way at the same moment as a refused one all hold."""
    await things.insert("taken", {"n": 0})

    answers = await asyncio.gather(
        *(things.insert(str(number), {"n": number}) for number in range(10)),
        things.insert("taken", {"n": 1}),
        *(things.insert(str(number), {"n": number}) for number in range(10, 20)),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [AlreadyExists]
    assert await things.count() == 21


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"owner": "u"}, {"owner": "u"}, id="one field of two"),
        pytest.param({}, {}, id="none of the fields"),
        pytest.param({"owner": "u", "name": "a"}, {"owner": "u", "name": "b"}, id="one differs"),
        pytest.param({"owner": "u", "name": "a"}, {"owner": "v", "name": "a"}, id="other differs"),
        pytest.param({"mail": "1"}, {"mail": 1}, id="another type"),
    ],
)
async def test_a_unique_index_counts_whole_and_equal_values(
    things: OutboxedDocuments, first: Document, second: Document
) -> None:
    """Documents that lack a field of the index, or differ in one, are no obstacle to each other."""
    await things.insert("a", first)
    await things.insert("b", second)

    assert await things.count() == 2


async def test_a_unique_value_is_free_again(things: OutboxedDocuments) -> None:
    """What a deleted or changed document gave up may be taken by another."""
    await things.insert("a", {"mail": "x"})
    await things.insert("b", {"mail": "y"})
    await things.delete("a")
    await things.change("b", unset=["mail"])

    await things.insert("c", {"mail": "x"})
    await things.insert("d", {"mail": "y"})

    assert await things.count() == 3


async def test_a_document_may_keep_its_own_unique_value(things: OutboxedDocuments) -> None:
    """Setting a unique field to what it is already is no collision."""
    await things.insert("a", {"mail": "x"})

    assert await things.change("a", set={"mail": "x", "n": 1}) is not None


async def test_dotted_paths_reach_into_objects(things: OutboxedDocuments) -> None:
    """`set` makes what is missing on the way, `unset` removes a leaf and leaves its siblings."""
    await things.insert("a", {"holders": {"x": {"cpu": 1}, "y": {"cpu": 2}}})

    await things.change("a", set={"holders.z.cpu": 3, "new.deep.leaf": True}, unset=["holders.x"])

    assert plain(await things.get("a")) == {
        "holders": {"y": {"cpu": 2}, "z": {"cpu": 3}},
        "new": {"deep": {"leaf": True}},
    }


@pytest.mark.parametrize(
    "field",
    ["0198c0de-0000-7000-8000-000000000001", "12", "with space", "qu'o\"te", "a[0]", "ünï", "#-1"],
)
async def test_odd_field_names_are_names(things: OutboxedDocuments, field: str) -> None:
    """Ids, numbers and punctuation in a path are field names, never syntax."""
    await things.insert("a", {"holders": {}})

    await things.change("a", set={f"holders.{field}": 1})
    found = await things.count({f"holders.{field}": 1})
    await things.change(
        "a", when={f"holders.{field}": {"$exists": True}}, unset=[f"holders.{field}"]
    )

    document = await things.get("a")
    assert found == 1
    assert document is not None
    assert (plain(document), document["version"]) == ({"holders": {}}, 3)


async def test_unsetting_what_is_missing_is_harmless(things: OutboxedDocuments) -> None:
    """A path that leads nowhere is no error, and the change still counts."""
    await things.insert("a", {"n": 1})

    changed = await things.change("a", unset=["x", "y.z", "n.z"])

    assert changed is not None
    assert (plain(changed), changed["version"]) == ({"n": 1}, 2)


async def test_setting_replaces_the_whole_value(things: OutboxedDocuments) -> None:
    """An object that is set takes the place of the old one; nothing is merged."""
    await things.insert("a", {"o": {"x": 1, "y": 2}, "l": [1, 2, 3]})

    await things.change("a", set={"o": {"z": 3}, "l": []})

    assert plain(await things.get("a")) == {"o": {"z": 3}, "l": []}


async def test_what_was_returned_is_the_callers_own(things: OutboxedDocuments) -> None:
    """Writing into a returned or a given document changes nothing that is stored."""
    given = {"o": {"x": 1}}
    inserted = await things.insert("a", given)
    given["o"]["x"] = 2
    inserted["o"]["x"] = 3
    found = await things.get("a")
    assert found is not None
    found["o"]["x"] = 4

    assert plain(await things.get("a")) == {"o": {"x": 1}}


async def test_delete_says_whether_there_was_one(things: OutboxedDocuments) -> None:
    """A matching document goes once; one that does not match stays."""
    await things.insert("a", {"n": 1})

    answers = [
        await things.delete("a", when={"n": 2}),
        await things.delete("a", when={"n": 1}),
        await things.delete("a"),
    ]

    assert answers == [False, True, False]


async def test_a_deleted_key_starts_anew(things: OutboxedDocuments) -> None:
    """A key may be used again after its document went, from version 1 on."""
    await things.insert("a", {"n": 1})
    await things.change("a", set={"n": 2})
    await things.delete("a")

    inserted = await things.insert("a", {"m": 1})

    assert (plain(inserted), inserted["version"]) == ({"m": 1}, 1)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param(True, id="true"),
        pytest.param(False, id="false"),
        pytest.param(0, id="zero"),
        pytest.param(1, id="one"),
        pytest.param(2**53 + 1, id="past a double"),
        pytest.param(2**63 - 1, id="greatest"),
        pytest.param(-(2**63), id="least"),
        pytest.param(0.0, id="zero float"),
        pytest.param(1.0, id="whole float"),
        pytest.param(0.1, id="float"),
        pytest.param(1e300, id="large float"),
        pytest.param("", id="empty text"),
        pytest.param("NUL \x00 ünïcödé \U0001f980 \u2028 'quotes\" \\", id="odd text"),
        pytest.param("2026-03-01T12:00:00Z", id="text like a time"),
        pytest.param("bm90IGJ5dGVz", id="text like base64"),
        pytest.param(b"", id="no bytes"),
        pytest.param(bytes(range(256)), id="all bytes"),
        pytest.param(b"plain", id="bytes like text"),
        pytest.param(NOW, id="time"),
        pytest.param(NOW + timedelta(milliseconds=1), id="time with a millisecond"),
        pytest.param(datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), id="before the epoch"),
        pytest.param(datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), id="last time"),
        pytest.param([], id="empty list"),
        pytest.param({}, id="empty object"),
        pytest.param([1, "1", 1.5, None, True, b"1", NOW, [1], {"a": [b""]}], id="mixed list"),
        pytest.param({"a": {"b": {"c": [NOW, {"d": b"\xff"}]}}}, id="nested"),
        pytest.param({"$date": 5, "$bytes": "x", "__t": 1}, id="object like an encoding"),
    ],
)
async def test_a_value_comes_back_as_it_was(things: OutboxedDocuments, value: object) -> None:
    """Every kind of value keeps its type and content, in insert, change and find alike."""
    await things.insert("a", {"value": value, "deep": {"list": [value]}})
    changed = await things.change("a", set={"again": value})

    [found] = await things.find()
    assert plain(changed) == plain(found) == plain(await things.get("a"))
    for copy in (found["value"], found["again"], found["deep"]["list"][0]):
        assert (type(copy), copy) == (type(value), value)


async def test_times_are_utc_to_the_millisecond(things: OutboxedDocuments) -> None:
    """A time of another zone is the same instant in UTC; what is below a millisecond goes."""
    zone = timezone(timedelta(hours=5, minutes=30))
    await things.insert("a", {"at": datetime(2026, 3, 1, 17, 30, 0, 123_999, tzinfo=zone)})

    found = await things.get("a")
    assert found is not None
    assert found["at"] == datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
    assert found["at"].tzinfo is UTC
    assert await things.count({"at": datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)}) == 1


# --- searching ----------------------------------------------------------------------------------

SAMPLES: dict[str, Document] = {
    "one": {"n": 1},
    "one float": {"n": 1.0},
    "two": {"n": 2},
    "half": {"n": 0.5},
    "true": {"n": True},
    "false": {"n": False},
    "text": {"n": "1"},
    "bytes": {"n": b"1"},
    "time": {"n": NOW},
    "later": {"n": NOW + timedelta(milliseconds=1)},
    "none": {"n": None},
    "missing": {"m": 1},
    "list": {"n": [1, "a"]},
    "empty list": {"n": []},
    "object": {"n": {"x": 1}},
    "large": {"n": 2**53 + 1},
}
NUMBERS = {"one", "one float", "two", "half", "large"}

PLAIN = {k: v for k, v in SAMPLES.items() if not isinstance(v.get("n"), (list, dict))}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(1, {"one", "one float", "list"}, id="number"),
        pytest.param(True, {"true"}, id="true is no number"),
        pytest.param(False, {"false"}, id="false is no number"),
        pytest.param("1", {"text"}, id="text"),
        pytest.param(b"1", {"bytes"}, id="bytes are no text"),
        pytest.param(NOW, {"time"}, id="time"),
        pytest.param(None, {"none", "missing"}, id="none matches missing"),
        pytest.param([1, "a"], {"list"}, id="whole list"),
        pytest.param([], {"empty list"}, id="empty list"),
        pytest.param({"x": 1}, {"object"}, id="whole object"),
        pytest.param(2**53, set(), id="no rounding of large numbers"),
        pytest.param({"$eq": "a"}, {"list"}, id="eq reaches into lists"),
        pytest.param({"$eq": None}, {"none", "missing"}, id="eq none"),
        pytest.param({"$ne": 1}, set(SAMPLES) - {"one", "one float", "list"}, id="ne"),
        pytest.param({"$ne": None}, set(SAMPLES) - {"none", "missing"}, id="ne none"),
        pytest.param({"$in": [1, "1"]}, {"one", "one float", "text", "list"}, id="in"),
        pytest.param({"$in": [None]}, {"none", "missing"}, id="in none"),
        pytest.param({"$in": []}, set(), id="in nothing"),
        pytest.param(
            {"$nin": [1, "1"]}, set(SAMPLES) - {"one", "one float", "text", "list"}, id="nin"
        ),
        pytest.param({"$nin": [None]}, set(SAMPLES) - {"none", "missing"}, id="nin none"),
        pytest.param({"$nin": []}, set(SAMPLES), id="nin nothing"),
        pytest.param({"$lt": 1, "$gt": -1}, {"half"}, id="range of numbers"),
        pytest.param({"$gte": 2}, {"two", "large"}, id="gte"),
        pytest.param({"$lte": 0.5}, {"half"}, id="lte"),
        pytest.param({"$gt": 2**53}, {"large"}, id="gt past a double"),
        pytest.param(
            {"$lt": "2"},
            {"text"},
            id="texts compare with texts",
        ),
        pytest.param({"$gte": b""}, {"bytes"}, id="bytes compare with bytes"),
        pytest.param({"$gt": NOW}, {"later"}, id="times compare with times"),
        pytest.param({"$lte": NOW}, {"time"}, id="lte of times"),
        pytest.param({"$exists": True}, set(SAMPLES) - {"missing"}, id="exists"),
        pytest.param({"$exists": False}, {"missing"}, id="exists not"),
        pytest.param({"$ne": None, "$exists": True}, set(SAMPLES) - {"none", "missing"}, id="both"),
    ],
)
async def test_a_condition_matches(
    things: OutboxedDocuments, condition: object, expected: set[str]
) -> None:
    """Each operator finds exactly these, by find, count and the condition of a change."""
    for key, document in SAMPLES.items():
        await things.insert(key, document)

    found = {document["_id"] for document in await things.find({"n": condition})}
    counted = await things.count({"n": condition})
    changed = {
        key for key in SAMPLES if await things.change(key, when={"n": condition}, set={"hit": 1})
    }

    assert found == changed == expected
    assert counted == len(expected)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param(1, {"one", "one float"}, id="number"),
        pytest.param(True, {"true"}, id="true is no number"),
        pytest.param("1", {"text"}, id="text"),
        pytest.param(NOW, {"time"}, id="time"),
        pytest.param(None, {"none", "missing"}, id="none"),
        pytest.param({"$ne": 1}, set(PLAIN) - {"one", "one float"}, id="ne"),
        pytest.param(
            {"$in": [1, "1", None]}, {"one", "one float", "text", "none", "missing"}, id="in"
        ),
        pytest.param({"$nin": ["1"]}, set(PLAIN) - {"text"}, id="nin"),
        pytest.param({"$lt": 1}, {"half"}, id="lt"),
        pytest.param({"$gte": 2}, {"two", "large"}, id="gte"),
        pytest.param({"$gt": ""}, {"text"}, id="texts only"),
        pytest.param({"$lte": NOW}, {"time"}, id="times only"),
        pytest.param({"$exists": False}, {"missing"}, id="exists not"),
        pytest.param({"$gt": 2**53}, {"large"}, id="gt past a double"),
    ],
)
async def test_an_index_changes_no_answer(
    documents_factory: DocumentsFactory, condition: object, expected: set[str]
) -> None:
    """A field that is searched by an index is found as any other is."""
    indexed = await documents_factory(Collection("indexed", (Index(("n",)),)))
    for key, document in PLAIN.items():
        await indexed.insert(key, document)

    found = {document["_id"] for document in await indexed.find({"n": condition})}

    assert found == expected
    assert await indexed.count({"n": condition}) == len(expected)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param(None, {"a", "b", "c"}, id="no filter"),
        pytest.param({}, {"a", "b", "c"}, id="empty filter"),
        pytest.param({"x": 1, "y": 1}, {"a"}, id="fields are anded"),
        pytest.param({"$or": [{"x": 2}, {"y": 2}]}, {"b", "c"}, id="or"),
        pytest.param({"$or": [{"x": 2}, {"y": 9}]}, {"c"}, id="or with a miss"),
        pytest.param({"$and": [{"x": 1}, {"y": {"$gt": 1}}]}, {"b"}, id="and"),
        pytest.param({"$and": [{"x": 1}, {"$or": [{"y": 1}, {"y": 3}]}]}, {"a"}, id="nested"),
        pytest.param({"y": 1, "$or": [{"x": 1}, {"x": 2}]}, {"a", "c"}, id="field beside or"),
        pytest.param({"o.p": "q"}, {"b"}, id="dotted"),
        pytest.param({"o.p": None}, {"a", "c"}, id="dotted none"),
        pytest.param({"o.p.z": {"$exists": True}}, set(), id="path through a text"),
        pytest.param({"o": {"$exists": True}}, {"b"}, id="object exists"),
        pytest.param({"version": 1}, {"a", "b", "c"}, id="version"),
    ],
)
async def test_filters_combine(
    things: OutboxedDocuments, where: Filter | None, expected: set[str]
) -> None:
    """Fields, `$and`, `$or` and dotted paths go together."""
    await things.insert("a", {"x": 1, "y": 1})
    await things.insert("b", {"x": 1, "y": 2, "o": {"p": "q"}})
    await things.insert("c", {"x": 2, "y": 1})

    assert {document["_id"] for document in await things.find(where)} == expected


async def fill(things: OutboxedDocuments, rows: Sequence[Document]) -> None:
    """Insert rows under their numbers."""
    for number, row in enumerate(rows):
        await things.insert(str(number), row)


async def keys(found: Awaitable[list[Document]]) -> list[str]:
    """Return the keys of what was found, in order."""
    return [document["_id"] for document in await found]


async def test_sorting_by_several_fields(things: OutboxedDocuments) -> None:
    """The second field decides where the first is equal; each has its own direction."""
    await fill(things, [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 0, "b": 1}, {"a": 0, "b": 2}])

    assert await keys(things.find(sort=[("a", 1), ("b", -1)])) == ["3", "2", "1", "0"]
    assert await keys(things.find(sort=[("b", 1), ("a", 1)])) == ["2", "0", "3", "1"]


async def test_missing_values_sort_first(things: OutboxedDocuments) -> None:
    """Ascending, a missing value stands before every other; descending, behind."""
    await fill(things, [{"a": 1}, {}, {"a": -5}])

    assert await keys(things.find(sort=[("a", 1)])) == ["1", "2", "0"]
    assert await keys(things.find(sort=[("a", -1)])) == ["0", "2", "1"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([-1, -0.5, 0, 0.5, 1, 9, 10, 2**53, 2**53 + 1], id="numbers"),
        pytest.param(["", "A", "B", "a", "aa", "b", "é", "\U0001f980"], id="texts"),
        pytest.param(
            [NOW - timedelta(days=9999), NOW, NOW + timedelta(milliseconds=1)], id="times"
        ),
        pytest.param([b"", b"\x00", b"\x7f", b"\x80", b"\xff"], id="bytes"),
        pytest.param([False, True], id="bools"),
    ],
)
async def test_values_sort_in_their_own_order(things: OutboxedDocuments, values: list[Any]) -> None:
    """Numbers by size, texts and bytes by their codes, times by instant; also down a path."""
    shuffled = values[::2] + values[1::2]
    await fill(things, [{"o": {"v": value}} for value in shuffled])

    up = [d["o"]["v"] for d in await things.find(sort=[("o.v", 1)])]
    down = [d["o"]["v"] for d in await things.find(sort=[("o.v", -1)])]

    assert up == values
    assert down == values[::-1]


async def test_skip_and_limit_cut_the_sorted_matches(things: OutboxedDocuments) -> None:
    """Pages are cut after filtering and sorting, and the last one is short."""
    await fill(things, [{"a": number, "even": number % 2 == 0} for number in range(10)])

    async def page(skip: int) -> list[str]:
        return await keys(things.find({"even": True}, sort=[("a", -1)], skip=skip, limit=2))

    assert [await page(0), await page(2), await page(4), await page(6)] == [
        ["8", "6"],
        ["4", "2"],
        ["0"],
        [],
    ]


async def test_count_stops_at_its_limit(things: OutboxedDocuments) -> None:
    """A limited count never exceeds its limit, and is exact below it."""
    await fill(things, [{"a": 1}] * 5)

    assert [await things.count({"a": 1}, limit=n) for n in (1, 4, 5, 6)] == [1, 4, 5, 5]


# --- outboxes -----------------------------------------------------------------------------------


async def test_events_come_back_as_they_were_said(things: OutboxedDocuments) -> None:
    """The outbox holds equal events in the order in which they were said, per document."""
    await things.insert("a", {}, emit=[event(1), event(2)])
    await things.change("a", set={"n": 1}, emit=[event(3)])
    await things.insert("b", {}, emit=[event(4, subject="e2")])

    assert await outbox_of(things) == {
        "a": [event(1), event(2), event(3)],
        "b": [event(4, subject="e2")],
    }


async def test_what_waits_in_one_document_is_told(things: OutboxedDocuments) -> None:
    """In order, nothing of others, and nothing once it is cleared."""
    await things.insert("a", {}, emit=[event(1)])
    await things.change("a", set={"n": 1}, emit=[event(2)])
    await things.insert("b", {}, emit=[event(3)])

    assert await things.waiting("a") == [event(1), event(2)]
    assert await things.waiting("nobody") == []

    await things.clear({"a": [event(1).id, event(2).id]})

    assert await things.waiting("a") == []


async def test_leftovers_are_older_than_an_instant(things: OutboxedDocuments) -> None:
    """What was written after the instant is left to whoever wrote it."""
    await things.insert("a", {}, emit=[event(1)])

    assert await things.leftovers(before=datetime(2000, 1, 1, tzinfo=UTC), limit=10) == []


async def test_leftovers_keep_to_their_limit(things: OutboxedDocuments) -> None:
    """At most `limit` documents are returned, and clearing lets the others through."""
    for number in range(5):
        await things.insert(str(number), {}, emit=[event(number)])
    seen: set[str] = set()

    for _ in range(3):
        page = await things.leftovers(before=datetime(2100, 1, 1, tzinfo=UTC), limit=2)
        assert len(page) <= 2
        seen |= {key for key, _ in page}
        await things.clear({key: [e.id for e in events] for key, events in page})

    assert seen == {"0", "1", "2", "3", "4"}
    assert await outbox_of(things) == {}


async def test_clear_takes_off_what_was_sent_and_no_more(things: OutboxedDocuments) -> None:
    """Events that came meanwhile stay; unknown events and documents are ignored."""
    await things.insert("a", {}, emit=[event(1), event(2)])

    await things.clear({"a": [event(1).id, "unknown"], "nobody": [event(2).id]})

    assert await outbox_of(things) == {"a": [event(2)]}


async def test_clearing_is_no_change(things: OutboxedDocuments) -> None:
    """A compare-and-set on the version is not disturbed by the runtime's tidying."""
    await things.insert("a", {"n": 1}, emit=[event(1)])

    await things.clear({"a": [event(1).id]})

    assert await things.change("a", when={"version": 1}, set={"n": 2}) is not None


async def test_racing_changes_lose_no_event(things: OutboxedDocuments) -> None:
    """Eight tasks that say ten events each into one document, while it is being cleared."""
    await things.insert("a", {})
    published: list[str] = []

    async def say_ten(racer: int) -> int:
        for number in range(10):
            await things.change("a", set={f"r{racer}": number}, emit=[event(racer * 10 + number)])
        return 10

    async def publish_once() -> None:
        for key, events in (await outbox_of(things)).items():
            published.extend(e.id for e in events)
            await things.clear({key: [e.id for e in events]})

    await asyncio.gather(race(say_ten), *(publish_once() for _ in range(5)))
    await publish_once()

    assert set(published) == {event(number).id for number in range(80)}
    assert await outbox_of(things) == {}


# --- any sequence of calls ----------------------------------------------------------------------

FIELDS = ["a", "b", "o.x", "o.y"]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.5, 1.0, -1.5]),
    st.text(string.ascii_lowercase[:2], max_size=2),
    st.sampled_from([b"", b"a"]),
    st.sampled_from([NOW, NOW + timedelta(milliseconds=1)]),
)
conditions = st.one_of(
    values,
    st.tuples(st.sampled_from(["$eq", "$ne"]), values).map(lambda pair: {pair[0]: pair[1]}),
    st.tuples(
        st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), values.filter(lambda v: v is not None)
    ).map(lambda pair: {pair[0]: pair[1]}),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)).map(
        lambda pair: {pair[0]: pair[1]}
    ),
    st.booleans().map(lambda flag: {"$exists": flag}),
)
simple_filters = st.dictionaries(st.sampled_from(FIELDS), conditions, max_size=2)
filters = st.one_of(
    simple_filters,
    st.tuples(
        st.sampled_from(["$and", "$or"]), st.lists(simple_filters, min_size=1, max_size=2)
    ).map(lambda pair: {pair[0]: pair[1]}),
)
document_keys = st.sampled_from(["k1", "k2", "k3"])
fields = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3)


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path, or MISSING."""
    found: Any = document
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return MISSING
        found = found[name]
    return found


def kind(value: object) -> str:
    """Return the name under which values compare: whole and broken numbers are one kind."""
    return "number" if type(value) in {int, float} else type(value).__name__


def equals(value: Any, wanted: Any) -> bool:
    """Say whether a stored value is equal to a wanted one in the port's sense."""
    if wanted is None:
        return value is None or value is MISSING
    return value is not MISSING and kind(value) == kind(wanted) and bool(value == wanted)


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": lambda value, bound: bool(value < bound),
    "$lte": lambda value, bound: bool(value <= bound),
    "$gt": lambda value, bound: bool(value > bound),
    "$gte": lambda value, bound: bool(value >= bound),
}
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": equals,
    "$ne": lambda value, wanted: not equals(value, wanted),
    "$in": lambda value, wanted: any(equals(value, item) for item in wanted),
    "$nin": lambda value, wanted: not any(equals(value, item) for item in wanted),
    "$exists": lambda value, wanted: (value is not MISSING) == wanted,
}


def holds(value: Any, condition: Any) -> bool:
    """Say whether a stored value meets a condition."""
    if not isinstance(condition, dict):
        return equals(value, condition)
    return all(
        OPERATORS[name](value, wanted)
        if name in OPERATORS
        else kind(value) == kind(wanted) and COMPARISONS[name](value, wanted)
        for name, wanted in condition.items()
    )


def matches(document: Mapping[str, Any], where: Filter) -> bool:
    """Say whether a document of the model matches a filter."""
    if "$or" in where:
        return any(matches(document, part) for part in where["$or"])
    if "$and" in where:
        return all(matches(document, part) for part in where["$and"])
    return all(holds(value_at(document, path), wanted) for path, wanted in where.items())


def put(document: Document, path: str, value: object) -> None:
    """Set a value at a path of the model."""
    *way, leaf = path.split(".")
    for name in way:
        document = document.setdefault(name, {})
    document[leaf] = value


def nested(changes: Mapping[str, object]) -> Document:
    """Return the document that dotted paths describe."""
    document: Document = {}
    for path, value in changes.items():
        put(document, path, value)
    return document


class AnySequence(RuleBasedStateMachine):
    """Runs calls on an adapter and on a dictionary, and compares all that can be seen."""

    factory_of: Callable[[], DocumentsFactory]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.factory = self.factory_of()
        self.documents = self.runner.run(self.open())
        self.model: dict[str, Document] = {}
        self.versions: dict[str, int] = {}

    async def open(self) -> Documents:
        """Open an empty collection."""
        return await self.factory(Collection("anything", (Index(("a",)), Index(("o.x", "b")))))

    @rule(key=document_keys, given_fields=fields)
    def insert(self, key: str, given_fields: dict[str, object]) -> None:
        """Insert, or learn that the key is taken."""
        document = nested(given_fields)
        if key in self.model:
            with pytest.raises(AlreadyExists):
                self.runner.run(self.documents.insert(key, document))
            return
        self.runner.run(self.documents.insert(key, document))
        self.model[key] = nested(given_fields)
        self.versions[key] = 1

    @rule(key=document_keys, when=filters, given_fields=fields)
    def change(self, key: str, when: Filter, given_fields: dict[str, object]) -> None:
        """Change where the condition holds."""
        answer = self.runner.run(self.documents.change(key, when=when, set=given_fields))
        if key not in self.model or not matches(self.model[key], when):
            assert answer is None
            return
        for path, value in given_fields.items():
            put(self.model[key], path, value)
        self.versions[key] += 1
        assert plain(answer) == self.model[key]

    @rule(key=document_keys, path=st.sampled_from(FIELDS))
    def unset(self, key: str, path: str) -> None:
        """Remove a field."""
        self.runner.run(self.documents.change(key, unset=[path]))
        if key not in self.model:
            return
        self.versions[key] += 1
        *way, leaf = path.split(".")
        parent = value_at(self.model[key], way[0]) if way else self.model[key]
        if isinstance(parent, dict):
            parent.pop(leaf, None)

    @rule(key=document_keys, when=filters)
    def delete(self, key: str, when: Filter) -> None:
        """Delete where the condition holds."""
        expected = key in self.model and matches(self.model[key], when)
        assert self.runner.run(self.documents.delete(key, when=when)) is expected
        if expected:
            del self.model[key], self.versions[key]

    @rule(where=filters)
    def search(self, where: Filter) -> None:
        """Find and count agree with the model."""
        expected = {key for key, document in self.model.items() if matches(document, where)}
        found = self.runner.run(self.documents.find(where))
        assert {document["_id"] for document in found} == expected
        assert self.runner.run(self.documents.count(where)) == len(expected)

    @invariant()
    def same_content(self) -> None:
        """Every document and every version is the model's."""
        found = self.runner.run(self.documents.find())
        assert {document["_id"]: plain(document) for document in found} == self.model
        assert {document["_id"]: document["version"] for document in found} == self.versions

    def teardown(self) -> None:
        """Close what the run opened."""
        self.runner.run(self.factory.close())
        self.runner.close()


@pytest.mark.slow
def test_any_sequence_of_calls_is_like_a_dictionary(
    new_documents_factory: Callable[[], DocumentsFactory],
) -> None:
    """Inserts, changes, deletions and searches in any order agree with a plain model."""

    class OnThisEngine(AnySequence):
        factory_of = staticmethod(new_documents_factory)

    run_state_machine_as_test(
        OnThisEngine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
