"""A MongoDB that goes away in order, and comes back; one that was never there."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import EngineAway, TemporaryError
from shared.ports.documents import Collection
from tests.integration.mongo.events import event
from tests.integration.mongo.own_server import OwnServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # see conftest.py
]
EVER = datetime(2100, 1, 1, tzinfo=UTC)
IN_TIME = 6.0
"""Seconds: the patience of a call, and what the driver takes to notice its end."""
SOON = timedelta(milliseconds=100)

CALLS: dict[str, Callable[[MongoDocuments], Awaitable[object]]] = {
    "get": lambda things: things.get("a"),
    "insert": lambda things: things.insert("b", {}),
    "insert with an event": lambda things: things.insert("b", {}, emit=[event(1)]),
    "insert_all": lambda things: things.insert_all([("b", {}), ("c", {})]),
    "change": lambda things: things.change("a", set={"n": 2}),
    "delete": lambda things: things.delete("a"),
    "find": lambda things: things.find({"n": 1}),
    "count": lambda things: things.count(),
    "leftovers": lambda things: things.leftovers(before=EVER, limit=1),
    "clear": lambda things: things.clear({"a": ["x"]}),
}


@pytest.fixture
async def store(own_server: OwnServer) -> AsyncIterator[MongoStore]:
    """Return a store on a server that only this test uses."""
    store = MongoStore(MongoOptions(url=own_server.url))
    yield store
    await store.close()


def things_of(store: MongoStore) -> MongoDocuments:
    """Return a collection."""
    return MongoDocuments(store, Collection("things"), SystemClock())


async def outcome_of(call: Awaitable[object]) -> tuple[type[object], bool]:
    """Return what kind of answer, or error, there was, and whether it came in time."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        answer = type(await call)
    except Exception as error:  # noqa: BLE001 - which one it is, is what is tested
        answer = type(error)
    return answer, loop.time() - start < IN_TIME


async def test_every_call_gives_up_in_time_while_nobody_answers(
    own_server: OwnServer, store: MongoStore
) -> None:
    """It may have happened or not: the caller is told that it may try again."""
    things = things_of(store)
    await things.insert("a", {"n": 1})
    await own_server.stop()

    calls = [outcome_of(call(things)) for call in CALLS.values()]
    outcomes = await asyncio.gather(*calls, outcome_of(store.ping()))

    assert set(outcomes) == {(EngineAway, True)}


async def test_the_same_client_goes_on_after_a_restart(
    own_server: OwnServer, store: MongoStore
) -> None:
    """Everything that was answered is there again, and nobody connects anew by hand."""
    things = things_of(store)
    await things.insert("a", {"n": 1}, emit=[event(1)])
    await own_server.stop()
    waiting = asyncio.create_task(outcome_of(things.get("a")))

    await own_server.start()
    async with asyncio.timeout(IN_TIME):
        while (await outcome_of(store.ping()))[0] is not type(None):
            await SystemClock().sleep(SOON)

    changed = await things.change("a", when={"n": 1}, set={"n": 2})
    assert changed is not None
    assert await things.leftovers(before=EVER, limit=10) == [("a", [event(1)])]
    assert (await waiting)[1]


async def test_calls_that_wait_for_the_server_are_answered_when_it_comes(
    own_server: OwnServer, store: MongoStore
) -> None:
    """A restart that is quicker than anybody's patience is not noticed by those who read."""
    things = things_of(store)
    await things.insert("a", {"n": 1})

    await own_server.stop()
    reading = [asyncio.create_task(things.get("a")) for _ in range(20)]
    await own_server.start()

    assert [(await one or {}).get("n") for one in reading] == [1] * 20


async def test_an_address_where_nobody_is(store: MongoStore) -> None:
    """The message names the address, never the password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = MongoStore(MongoOptions(url=f"mongodb://user:secret@127.0.0.1:{port}/?tls=false"))

    with pytest.raises(TemporaryError, match=f"127.0.0.1:{port}") as caught:
        await nobody.ping()

    await nobody.close()
    await store.ping()
    assert "secret" not in str(caught.value)
