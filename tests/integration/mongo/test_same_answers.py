"""The same documents in MongoDB and in SQLite give the same answers to the same questions."""

import asyncio
import itertools
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.system.clock import SystemClock
from shared.domain.executions import NOT_TERMINAL, TERMINAL
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Collection, Document, Documents, Filter, Index, Sort
from shared.runtime.evidence import gather
from tests.contract.mongo import MongoDatabase, mongo_url
from tests.integration.mongo.events import event

pytestmark = pytest.mark.integration
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return an instant."""
    return NOW + timedelta(seconds=seconds)


# --- any documents, any filter of the subset ----------------------------------------------------

SINGLE, LISTS = ("a", "b", "o.x", "o.y.z"), "l"
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1, 0.5, 1.0, -1.5, 1e300]),
    st.text(string.ascii_lowercase[:2] + "é", max_size=2),
    st.sampled_from([b"", b"a", b"b"]),
    st.sampled_from([NOW, at(0.001), at(-1e9)]),
)
# In lists the port's own matcher looks for no None, and takes False for 0.
lists = st.lists(scalars.filter(lambda v: v is not None and not isinstance(v, bool)), max_size=3)
equalities = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), scalars),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
).map(lambda pair: {pair[0]: pair[1]})
comparisons = st.dictionaries(
    st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), scalars, min_size=1, max_size=2
)
single_filters = st.dictionaries(
    st.sampled_from(SINGLE),
    st.one_of(
        scalars, equalities, comparisons, st.builds(lambda e, c: e | c, equalities, comparisons)
    ),
    max_size=2,
)
list_filters = st.dictionaries(st.just(LISTS), st.one_of(scalars, lists, equalities), max_size=1)
plain_filters = st.builds(lambda one, other: {**one, **other}, single_filters, list_filters)
filters = st.recursive(
    plain_filters,
    lambda inner: st.builds(
        lambda plain, name, parts: {**plain, name: parts},
        plain_filters,
        st.sampled_from(["$and", "$or"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=4,
)
sorts = st.lists(
    st.tuples(st.sampled_from(SINGLE), st.sampled_from([1, -1])),
    max_size=2,
    unique_by=lambda pair: pair[0],
)


def nested(given_fields: Mapping[str, Any]) -> Document:
    """Return the document that dotted paths describe."""
    document: Document = {}
    for path, value in given_fields.items():
        *way, leaf = path.split(".")
        holder = document
        for name in way:
            holder = holder.setdefault(name, {})
        holder[leaf] = value
    return document


documents = st.lists(
    st.builds(
        lambda singles, listed: nested({**singles, **listed}),
        st.dictionaries(st.sampled_from(SINGLE), scalars, max_size=4),
        st.dictionaries(st.just(LISTS), lists, max_size=1),
    ),
    max_size=8,
)


class Question(NamedTuple):
    """One search."""

    where: Filter
    sort: Sort = ()
    skip: int = 0
    limit: int | None = None


questions = st.builds(
    Question, filters, sorts, st.integers(0, 2), st.one_of(st.none(), st.integers(1, 3))
)


async def answer_of(engine: Documents, question: Question) -> tuple[object, ...]:
    """Return everything that an engine says to a question, and that two engines must agree on."""
    where, sort, skip, limit = question
    total = [*sort, ("_id", 1)]  # equal values are in nobody's order
    found = await engine.find(where, sort=total, skip=skip, limit=limit)
    return (
        found,
        sorted(document["_id"] for document in await engine.find(where)),
        await engine.count(where),
        await engine.count(where, limit=limit),
    )


def in_own_loop(act: Callable[[MongoDatabase, SqliteStore], Awaitable[None]]) -> None:
    """Run on both engines, in a loop that lasts as long as they do."""

    async def run() -> None:
        database, store = MongoDatabase(mongo_url()), SqliteStore()
        try:
            await act(database, store)
        finally:
            await database.close()
            await store.close()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize(
    "indexes",
    [
        pytest.param((), id="no index"),
        pytest.param((Index(("a",)), Index(("b", "a"))), id="indexes"),
    ],
)
def test_any_filter_finds_the_same_in_both(indexes: tuple[Index, ...]) -> None:
    """Whatever documents there are, and whatever is asked, in the subset of the port."""
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        database, store = MongoDatabase(mongo_url()), SqliteStore()

        async def compare(rows: Sequence[Document], asked: Sequence[Question]) -> None:
            collection = Collection(f"any{next(numbers)}", indexes)
            mongo = await database(collection)
            sqlite = SqliteDocuments(store, collection, SystemClock())
            pairs = [(f"k{number}", row) for number, row in enumerate(rows)]
            await mongo.insert_all(pairs)
            await sqlite.insert_all(pairs)
            for question in asked:
                assert await answer_of(mongo, question) == await answer_of(sqlite, question)
            await database.store().collection(collection.name).drop()

        @settings(
            max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(rows=documents, asked=st.lists(questions, min_size=1, max_size=6))
        def check(rows: list[Document], asked: list[Question]) -> None:
            runner.run(compare(rows, asked))

        try:
            check()
        finally:
            runner.run(database.close())
            runner.run(store.close())


# --- what the functions and the gateway ask -----------------------------------------------------

STATUSES = ("queued", "scheduled", "launching", "running", *sorted(TERMINAL))


def executions() -> list[tuple[str, Document]]:
    """Return executions in every state, of three users, in no order."""
    rows = []
    for number in range(60):
        row: Document = {
            "execution_id": f"e{number}",
            "user_id": f"u{number // 2 % 3}",
            "status": STATUSES[number % len(STATUSES)],
            "lang": ("python", "bash")[number // 7 % 2],
            "priority": ("normal", "high")[number % 5 == 0],
            "rank": at(number * 37 % 60),
            "created_at": at(number * 17 % 30),
        }
        if number % 4 == 0:
            row["cancel_requested_at"] = at(number) if number % 8 else None
        if number % 3 == 0:
            row["pod_name"] = f"exec-{number}" if number % 2 else None
        rows.append((f"e{number}", row))
    return rows


def history() -> list[tuple[str, Document]]:
    """Return the events of some executions, and some of none."""
    types = ("execution.requested", "execution.output", "execution.queued", "result_stored")
    numbered = [
        (
            f"v{execution}-{seq}",
            {
                "event_type": types[seq % 4],
                "data": {"n": seq},
                "execution_id": f"e{execution}",
                "seq": seq,
            },
        )
        for execution in range(4)
        for seq in range(1, 9)
    ]
    return numbered + [(f"s{n}", {"event_type": "user.x", "user_id": "u1"}) for n in range(5)]


def people() -> list[tuple[str, Document]]:
    """Return users, one of them an administrator who is not active."""
    return [
        (
            f"u{number}",
            {
                "user_id": f"u{number}",
                "username_key": f"name{number}",
                "email_key": f"{number}@example.org",
                "role": "admin" if number < 3 else "user",
                "is_active": number != 0,
            },
        )
        for number in range(6)
    ]


def keys_of_users() -> list[tuple[str, Document]]:
    """Return keys of users, some revoked."""
    return [
        (
            f"k{number}",
            {
                "key_hash": f"h{number}",
                "user_id": f"u{number % 2}",
                "name": ("local", "ci")[number % 3 == 0],
                **({"revoked_at": at(1)} if number % 4 == 0 else {}),
            },
        )
        for number in range(9)
    ]


ROWS: dict[str, list[tuple[str, Document]]] = {
    "executions": executions(),
    "events": history(),
    "users": people(),
    "api_keys": keys_of_users(),
    "sessions": [
        (f"s{n}", {"user_id": f"u{n % 2}", "address": f"10.0.0.{n % 3}", "created_at": at(n)})
        for n in range(12)
    ],
    "timers": [
        (f"t{n}", {"due_at": at(n * 7 % 20), **({"lease_until": at(n)} if n % 2 else {})})
        for n in range(20)
    ],
    "pools": [("default", {"holders": {"e1": {"user": "u1", "cpu": 1}}}), ("a", {"holders": {}})],
    "dead_letters": [
        (f"d{n}", {"status": ("pending", "retried", "parked")[n % 3], "next_retry_at": at(n)})
        for n in range(9)
    ],
}
BY_RANK: Sort = [("rank", 1)]
QUEUED = {"status": "queued"}
ASKED: dict[str, tuple[str, Question]] = {
    "coordinate: the front of the queue": ("executions", Question(QUEUED, BY_RANK, limit=50)),
    "coordinate: the best to schedule": (
        "executions",
        Question(
            {**QUEUED, "cancel_requested_at": None, "user_id": {"$nin": ["u0", "u2"]}},
            BY_RANK,
            limit=1,
        ),
    ),
    "coordinate: nobody at the limit": (
        "executions",
        Question({**QUEUED, "cancel_requested_at": None}, BY_RANK, limit=1),
    ),
    "coordinate: who stands before": (
        "executions",
        Question({**QUEUED, "rank": {"$lt": at(30)}}),
    ),
    "coordinate: the last runs": (
        "executions",
        Question({"status": "completed"}, [("rank", -1)], limit=20),
    ),
    "submit: how many of mine wait": ("executions", Question({"user_id": "u0", **QUEUED}, limit=2)),
    "submit: how many wait": ("executions", Question(QUEUED, limit=5)),
    "gateway: who stands between": (
        "executions",
        Question({**QUEUED, "rank": {"$gte": at(10), "$lt": at(40)}}),
    ),
    "gateway: mine, newest first": (
        "executions",
        Question({"user_id": "u1"}, [("created_at", -1)], skip=3, limit=6),
    ),
    "gateway: mine of one kind and time": (
        "executions",
        Question(
            {
                "user_id": "u1",
                "status": "queued",
                "lang": "bash",
                "created_at": {"$gte": at(2), "$lte": at(25)},
            },
            [("created_at", -1)],
            limit=11,
        ),
    ),
    "gateway: waiting by priority": ("executions", Question({**QUEUED, "priority": "high"})),
    "cancel and result: not over yet": (
        "executions",
        Question({"status": NOT_TERMINAL, "cancel_requested_at": None}),
    ),
    "launch: may be claimed": (
        "executions",
        Question(
            {
                "status": {"$in": ["scheduled", "launching"]},
                "pod_name": None,
                "cancel_requested_at": None,
            }
        ),
    ),
    "relay: the newest of one": (
        "events",
        Question({"execution_id": "e1"}, [("execution_id", -1), ("seq", -1)], limit=1),
    ),
    "relay: output of one": (
        "events",
        Question({"execution_id": "e1", "event_type": "execution.output"}, [("seq", 1)]),
    ),
    "gateway: the last of one kind": (
        "events",
        Question({"execution_id": "e1", "event_type": "execution.queued"}, [("seq", -1)], limit=1),
    ),
    "streams: after the last seen": (
        "events",
        Question({"execution_id": "e2", "seq": {"$gt": 3}}, [("seq", 1)], limit=3),
    ),
    "streams: around the result": (
        "events",
        Question({"execution_id": "e2", "seq": {"$lte": 6}}, [("seq", -1)], limit=2),
    ),
    "streams: of many at once": (
        "events",
        Question({"execution_id": {"$in": ["e1", "e3"]}, "seq": {"$gt": 5}}, limit=100),
    ),
    "gateway: some kinds after one": (
        "events",
        Question(
            {
                "execution_id": "e0",
                "seq": {"$gt": 1},
                "event_type": {"$in": ["execution.output", "result_stored"]},
            },
            [("seq", 1)],
            limit=2,
        ),
    ),
    "accounts: a name": ("users", Question({"username_key": "name3"}, limit=1)),
    "accounts: an address": ("users", Question({"email_key": "4@example.org"}, limit=1)),
    "accounts: is there an administrator": ("users", Question({"role": "admin"}, limit=1)),
    "local key: the active administrator": (
        "users",
        Question({"role": "admin", "is_active": True, "username_key": "name1"}),
    ),
    "local key: any active one": ("users", Question({"role": "admin", "is_active": True})),
    "accounts: was here before": (
        "sessions",
        Question({"user_id": "u1", "address": "10.0.0.1", "created_at": {"$gte": at(5)}}, limit=1),
    ),
    "keys: by hash": ("api_keys", Question({"key_hash": "h4"}, limit=1)),
    "keys: of one": ("api_keys", Question({"user_id": "u1"}, [("user_id", 1)])),
    "keys: of one name": ("api_keys", Question({"user_id": "u1", "name": "local"})),
    "keys: not revoked": ("api_keys", Question({"user_id": "u0", "revoked_at": None})),
    "timers: due": (
        "timers",
        Question({"due_at": {"$lte": at(8)}}, [("due_at", 1)], limit=4),
    ),
    "autoscaler: timers due": ("timers", Question({"due_at": {"$exists": True, "$lte": at(8)}})),
    "pools: all": ("pools", Question({}, [("_id", 1)])),
    "pools: who holds a slot": ("pools", Question({"holders.e1": {"$exists": True}})),
    "dead letters: open": (
        "dead_letters",
        Question({"status": {"$in": ["pending", "scheduled", "retried"]}}),
    ),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_every_question_of_ours_has_the_same_answer_in_both(asked: tuple[str, Question]) -> None:
    """Each filter, order and page that functions and gateway use; none finds all or nothing."""
    name, question = asked
    rows = ROWS[name]

    async def act(database: MongoDatabase, store: SqliteStore) -> None:
        mongo = await database(COLLECTIONS[name])
        sqlite = SqliteDocuments(store, COLLECTIONS[name], SystemClock())
        assert await mongo.insert_all(rows) == await sqlite.insert_all(rows) == len(rows)

        assert await answer_of(mongo, question) == await answer_of(sqlite, question)
        assert 0 < await sqlite.count(question.where) < len(rows) + (not question.where)

    in_own_loop(act)


def test_the_evidence_is_the_same_from_both() -> None:
    """What `doctor` reads of a live system, and what it concludes, depends on no engine."""

    async def act(database: MongoDatabase, store: SqliteStore) -> None:
        clock = SystemClock()
        log = SqliteEventLog(store, clock)
        mongo = {name: await database(one) for name, one in COLLECTIONS.items()}
        sqlite = {n: SqliteDocuments(store, one, clock) for n, one in COLLECTIONS.items()}
        for engine in (mongo, sqlite):
            for name, rows in ROWS.items():
                await engine[name].insert_all(rows)
            await engine["executions"].insert("x", {"status": "queued"}, emit=[event(1), event(2)])
            await engine["executions"].change("x", set={"rank": NOW}, emit=[event(3)])
            await engine["sagas"].insert("y", {"state": "running"}, emit=[event(4)])

        moment = clock.now() + timedelta(minutes=1)
        found = [
            await gather(engine, log, groups={}, pods=(), at=moment) for engine in (mongo, sqlite)
        ]

        documents = [
            {name: sorted(rows, key=lambda row: str(row["_id"])) for name, rows in one.items()}
            for one in (evidence.documents for evidence in found)
        ]
        assert documents[0] == documents[1]
        assert sorted(found[0].outboxes, key=str) == sorted(found[1].outboxes, key=str)
        assert len(found[0].outboxes) == 4

    in_own_loop(act)
