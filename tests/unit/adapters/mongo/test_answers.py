"""What becomes of a MongoDB's answers that no engine on this machine can be made to give."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.virtual.clock import VirtualClock
from shared.domain.errors import AlreadyExists, PermanentError, StartupError, TemporaryError
from shared.ports.documents import Collection
from tests.ledger import pause
from tests.unit.adapters.mongo.scripted_server import Answer, Say, ScriptedServer

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # see conftest.py
BRIEF = timedelta(milliseconds=100)
LONG = timedelta(seconds=5)
NOTHING: Mapping[str, Any] = {"ok": 1, "cursor": {"id": 0, "ns": "x.x", "firstBatch": []}}
REFUSED: Answer = {"ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "no"}
NO_RIGHT: Answer = {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized"}


def always(answer: Answer) -> Say:
    """Return what says the same to everything."""
    return lambda _: answer


def store_at(server: ScriptedServer, *, login: str = "", patience: timedelta = LONG) -> MongoStore:
    """Return a store at a server."""
    url = server.url.replace("//", f"//{login}")
    return MongoStore(MongoOptions(url=url, database="x", patience=patience))


def documents_of(store: MongoStore) -> MongoDocuments:
    """Return a collection."""
    return MongoDocuments(store, Collection("things"), VirtualClock())


Call = Callable[[MongoDocuments], Awaitable[object]]
CALLS: dict[str, Call] = {
    "get": lambda documents: documents.get("a"),
    "insert": lambda documents: documents.insert("a", {"n": 1}),
    "insert_all": lambda documents: documents.insert_all([("a", {"n": 1})]),
    "change": lambda documents: documents.change("a", set={"n": 1}),
    "delete": lambda documents: documents.delete("a"),
    "find": lambda documents: documents.find({"n": 1}),
    "count": lambda documents: documents.count({"n": 1}),
    "leftovers": lambda documents: documents.leftovers(before=VirtualClock().now(), limit=1),
    "clear": lambda documents: documents.clear({"a": ["1"]}),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


async def outcome(server: ScriptedServer, call: Call, *, patience: timedelta = LONG) -> object:
    """Return what a call returned, or raised."""
    store = store_at(server, patience=patience)
    try:
        return await call(documents_of(store))
    except Exception as error:  # noqa: BLE001 - what it is, is what is tested
        return error
    finally:
        await store.close()


@every_call
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"ok": 0, "code": 50, "errmsg": "took too long"}, id="too long"),
        pytest.param({"ok": 0, "code": 14031, "errmsg": "disk full"}, id="no disk"),
        pytest.param({"ok": 0, "code": 99_999, "errmsg": "?"}, id="unheard of"),
        pytest.param(NO_RIGHT, id="a right taken away"),
    ],
)
async def test_what_may_be_otherwise_later_is_temporary(call: Call, answer: Answer) -> None:
    """None of these is the fault of the document at hand, so no event is given up for it."""
    async with ScriptedServer(always(answer)) as server:
        assert isinstance(await outcome(server, call), TemporaryError)


@pytest.mark.parametrize("call", [CALLS["find"], CALLS["change"]], ids=["find", "change"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="cut"),
        pytest.param({"ok": 0, "code": 10107, "errmsg": "not primary"}, id="no primary any more"),
        pytest.param({"ok": 0, "code": 91, "errmsg": "shutting down"}, id="shutting down"),
    ],
)
async def test_a_server_that_goes_is_temporary(call: Call, answer: Answer) -> None:
    """It is looked for again until patience ends, then the caller decides."""
    async with ScriptedServer(always(answer)) as server:
        assert isinstance(await outcome(server, call, patience=BRIEF), TemporaryError)


@every_call
async def test_silence_ends(call: Call) -> None:
    """A server that takes commands and says nothing is given up on in time."""
    forever = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forever.wait()
        writer.close()

    listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    store = MongoStore(MongoOptions(url=f"mongodb://127.0.0.1:{port}", patience=BRIEF))

    async with asyncio.timeout(5):
        with pytest.raises(TemporaryError):
            await call(documents_of(store))

    forever.set()
    await store.close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("call", [CALLS["insert"], CALLS["change"], CALLS["insert_all"]])
async def test_a_write_that_a_majority_has_not_got_yet_may_have_happened(call: Call) -> None:
    """The primary took it and knows of no majority: that is no success."""
    late = {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication"}
    answer = {"ok": 1, "n": 1, "value": {"_id": "a"}, "writeConcernError": late}
    async with ScriptedServer(always(answer)) as server:
        assert isinstance(await outcome(server, call), TemporaryError)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        pytest.param(
            CALLS["insert"],
            {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}]},
            id="insert",
        ),
        pytest.param(
            CALLS["change"], {"ok": 0, "code": 11000, "errmsg": "E11000 mail: x@y"}, id="change"
        ),
    ],
)
async def test_a_taken_key_says_so_without_its_value(call: Call, answer: Answer) -> None:
    """A value that must be unique may be an address of somebody."""
    async with ScriptedServer(always(answer)) as server:
        error = await outcome(server, call)

    assert isinstance(error, AlreadyExists)
    assert "@" not in str(error)


@pytest.mark.parametrize("code", [28, 40, 10334, 17419])
async def test_what_is_wrong_with_the_document_stays_wrong(code: int) -> None:
    """A document that is too large, or a path through a text, is no better next time."""
    async with ScriptedServer(always({"ok": 0, "code": code, "errmsg": "no"})) as server:
        error = await outcome(server, CALLS["change"])

    assert isinstance(error, PermanentError)
    assert not isinstance(error, AlreadyExists)


async def test_a_document_of_many_that_does_not_fit_is_named_by_its_fault() -> None:
    """The others are not to blame, and no content is shown."""
    failed = [{"index": 0, "code": 10334, "errmsg": "too large: print('secret')"}]
    answer = {"ok": 1, "n": 0, "writeErrors": failed}
    async with ScriptedServer(always(answer)) as server:
        error = await outcome(server, CALLS["insert_all"])

    assert isinstance(error, PermanentError)
    assert "secret" not in str(error)


# --- what is asked for --------------------------------------------------------------------------


@every_call
async def test_nothing_is_read_or_written_that_a_majority_may_lose(call: Call) -> None:
    """Writes wait for the journals of a majority, reads see only what those have."""
    answer = {**NOTHING, "n": 1, "value": None}
    async with ScriptedServer(always(answer)) as server:
        await outcome(server, call)

    writes = [a for a in server.asked if {"insert", "update", "delete", "findAndModify"} & a.keys()]
    reads = [a for a in server.asked if {"find", "count"} & a.keys()]
    assert writes or reads
    assert all(asked["writeConcern"] == {"w": "majority", "j": True} for asked in writes)
    assert all(asked["readConcern"] == {"level": "majority"} for asked in reads)


async def test_reads_go_to_the_primary() -> None:
    """A secondary may not have yet what a reader was told is stored."""
    async with ScriptedServer(always(NOTHING), replica_set="rs", secondary=True, **_SECONDARY) as (
        server
    ):
        error = await outcome(server, CALLS["get"], patience=BRIEF)

    assert isinstance(error, TemporaryError)
    assert server.named("find") == []


_SECONDARY: Mapping[str, Any] = {"ismaster": False, "isWritablePrimary": False}


async def test_a_write_is_sent_again_where_it_cannot_be_done_twice() -> None:
    """A replica set knows a write by its number, so a cut connection is no reason to give up."""
    answers: list[Answer] = [None, {"ok": 1, "n": 1}]
    async with ScriptedServer(lambda _: answers.pop(0), replica_set="rs") as server:
        inserted = await outcome(server, CALLS["insert"])

    first, second = server.named("insert")
    assert inserted == {"_id": "a", "n": 1, "version": 1}
    assert (first["lsid"], first["txnNumber"]) == (second["lsid"], second["txnNumber"])


# --- starting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "answer", "told"),
    [
        pytest.param("somebody:secret@", REFUSED, "INTEGR8S_MONGO_URL", id="wrong password"),
        pytest.param("", NO_RIGHT, "rights of that user", id="no right to read"),
        pytest.param(
            "somebody:secret@",
            {"ok": 0, "code": 59, "errmsg": "no such command: 'saslStart'"},
            "INTEGR8S_MONGO_URL",
            id="a server without users",
        ),
    ],
)
async def test_a_start_that_is_refused_says_what_helps(
    login: str, answer: Answer, told: str
) -> None:
    """Waiting would heal nothing; the message names the setting, and never the password."""
    async with ScriptedServer(always(answer)) as server:
        store = store_at(server, login=login)
        with pytest.raises(StartupError, match=told) as caught:
            await store.ping()
        await store.close()

    assert "secret" not in str(caught.value)


async def test_a_server_of_long_ago_is_named_at_the_start() -> None:
    """The driver does not speak with it, today or tomorrow."""
    async with ScriptedServer(always(NOTHING), maxWireVersion=5) as server:
        store = store_at(server)
        with pytest.raises(StartupError, match="does not serve this process"):
            await store.ping()
        await store.close()


async def test_who_served_us_before_is_waited_for() -> None:
    """A password that is changed under way loses no event: somebody will tell us the new one."""
    answers = [NOTHING, NO_RIGHT]
    async with ScriptedServer(lambda _: answers.pop(0)) as server:
        store = store_at(server)
        await store.ping()

        with pytest.raises(TemporaryError, match="INTEGR8S_MONGO_URL"):
            await store.ping()
        await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://localhost",
        "mongodb://",
        "mongodb://user:p/a:secret@host/",
        "mongodb://user:p@secret@host/",
        "mongodb://host:secret",
        "mongodb://:secret@host",
        "mongodb://user:secret@host/?authMechanism=NOTHING",
        "mongodb://user:secret@host/?readPreference=nearby",
        "mongodb://user:secret@host/?unheard=1",
    ],
)
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    """With the form that it should have, and without what might be a password."""
    with pytest.raises(StartupError, match="INTEGR8S_MONGO_URL as mongodb://") as caught:
        MongoStore(MongoOptions(url=url))

    assert "secret" not in str(caught.value)


def test_what_is_no_name_of_a_database_is_refused_at_once() -> None:
    """The setting is named."""
    with pytest.raises(StartupError, match="INTEGR8S_MONGO_DATABASE"):
        MongoStore(MongoOptions(url="mongodb://host", database="a b"))


def test_options_show_no_password() -> None:
    """They end up in logs."""
    assert "secret" not in repr(MongoOptions(url="mongodb://user:secret@host"))


async def test_behind_an_outage_everybody_is_answered() -> None:
    """Also where connections take long and somebody's time is always up: that one fails alone."""
    async with ScriptedServer(always(NOTHING)) as server:
        server.greets_after = 60.0
        store = store_at(server, patience=timedelta(milliseconds=600))
        documents = documents_of(store)

        async def until_answered(number: int) -> None:
            await pause(number * 0.015)
            while True:
                with contextlib.suppress(TemporaryError):
                    await documents.find({})
                    return

        try:
            asking = [asyncio.create_task(until_answered(number)) for number in range(40)]
            await pause(1)
            assert not any(one.done() for one in asking)
            server.greets_after = 0.1
            await asyncio.gather(*asking)
        finally:
            await store.close()
