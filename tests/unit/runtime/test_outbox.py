"""From documents to topics: at least once, in order, whatever dies in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.domain.errors import AlreadyExists, MalformedEvent, PermanentError, TemporaryError
from shared.events.codec import header
from shared.events.event import Event
from shared.events.executions import ExecutionStarted
from shared.events.topics import Topic
from shared.ports.event_log import NewRecord, Record, TopicPartition
from shared.runtime.outbox import LogPublisher, Outbox
from tests import builders
from tests.builders import START, World, seconds


def event(event_id: str, *, key: str = "k", text: str = "p") -> Event:
    """Return an event."""
    data = ExecutionStarted(execution_id=key, user_id="u", pod_name=text, started_at=START)
    return builders.event(data, subject=key, event_id=event_id)


class Log:
    """The world's log, which may be away, refuse an event, or lose its answers."""

    def __init__(self, world: World) -> None:
        self.inner = world.log
        self.is_away = False
        self.refused: set[bytes] = set()
        self.appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append."""
        self.appends += 1
        if self.is_away:
            raise TemporaryError("away")
        if any(header(record.headers, "ce_id") in self.refused for record in records):
            raise PermanentError("never")
        await self.inner.append(records)


async def said(world: World) -> list[str]:
    """Return the ids of what lies in the topic, by partition."""
    found: list[Record] = []
    for partition in range(6):
        place = TopicPartition(Topic.EXECUTION_EVENTS, partition)
        found += await world.log.read(place, offset=0, limit=1000)
    return [(header(record.headers, "ce_id") or b"").decode() for record in found]


async def left(world: World) -> list[str]:
    """Return the ids of what the documents hold."""
    return [event.id for event in await world.emitted("executions")]


def outbox_of(world: World, log: Any = None) -> Outbox:
    """Return an outbox."""
    outbox = Outbox(log or world.log, world.clock, world.documents)
    outbox.documents("executions")
    return outbox


async def test_what_is_emitted_goes_out_and_is_cleared(world: World) -> None:
    """At once, without a sweep."""
    documents = outbox_of(world).documents("executions")
    await documents.insert("1", {"a": 1}, emit=[event("e1")])
    await documents.change("1", set={"a": 2}, emit=[event("e2")])
    await world.clock.advance(seconds(1))

    assert await said(world) == ["e1", "e2"]
    assert await left(world) == []


async def test_a_change_that_did_not_happen_says_nothing(world: World) -> None:
    """Somebody else was first."""
    documents = outbox_of(world).documents("executions")
    await documents.change("1", set={"a": 2}, emit=[event("e")])
    await world.clock.advance(seconds(1))

    assert await said(world) == []


async def test_events_wait_for_the_log_in_order(world: World) -> None:
    """Nothing overtakes."""
    log = Log(world)
    log.is_away = True
    documents = outbox_of(world, log).documents("executions")
    for number in range(5):
        await documents.insert(str(number), {}, emit=[event(f"e{number}")])
        await world.clock.advance(seconds(2))
    log.is_away = False
    await world.clock.advance(seconds(2))

    assert await said(world) == [f"e{number}" for number in range(5)]
    assert await left(world) == []


async def test_what_the_log_never_takes_stays_and_others_pass(world: World) -> None:
    """With an alarm in the log; a person has to look."""
    log = Log(world)
    log.refused = {b"bad"}
    documents = outbox_of(world, log).documents("executions")
    await documents.insert("1", {}, emit=[event("a"), event("bad"), event("b")])
    await world.clock.advance(seconds(1))

    assert await said(world) == ["a", "b"]
    assert await left(world) == ["bad"]


async def test_a_sweep_finds_what_a_crash_left(world: World) -> None:
    """After ten seconds, not before: a living process is faster by itself."""
    await world.documents("executions").insert("1", {}, emit=[event("a"), event("b")])
    outbox = outbox_of(world)
    assert await outbox.sweep() == 0
    assert await outbox.left_behind("executions") == 0
    await world.clock.advance(seconds(11))

    assert await outbox.left_behind("executions") == 1
    assert await outbox.sweep() == 2
    assert await said(world) == ["a", "b"]
    assert await outbox.left_behind("executions") == 0
    assert await outbox.sweep() == 0


async def test_a_sweep_that_fails_leaves_everything(world: World) -> None:
    """For the next one."""
    await world.documents("executions").insert("1", {}, emit=[event("a")])
    await world.clock.advance(seconds(11))
    log = Log(world)
    log.is_away = True

    with pytest.raises(TemporaryError):
        await outbox_of(world, log).sweep()

    assert await left(world) == ["a"]


async def test_drain_returns_once_everything_is_out(world: World) -> None:
    """And cleared."""
    outbox = outbox_of(world)
    await outbox.documents("executions").insert("1", {}, emit=[event("a")])
    draining = asyncio.create_task(outbox.drain())
    await world.clock.advance(seconds(1))

    assert draining.done()
    assert await left(world) == []


class Store:
    """The world's documents, which do what they are told and may not answer, or answer at all."""

    def __init__(self, world: World) -> None:
        self.inner = world.documents("executions")
        self.answers = True
        self.hangs = False
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def insert(self, key: str, document: Any, *, emit: Sequence[Event] = ()) -> Any:
        """Store; the answer may be lost, or never come."""
        return await self._answer(await self.inner.insert(key, document, emit=emit))

    async def change(self, key: str, **more: Any) -> Any:
        """Change; the answer may be lost, or never come."""
        return await self._answer(await self.inner.change(key, **more))

    async def waiting(self, key: str) -> Any:
        """Return what waits, where there are answers."""
        self.asked += 1
        return await self._answer(await self.inner.waiting(key))

    async def _answer(self, answer: Any) -> Any:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if not self.answers:
            raise TemporaryError("no answer")
        return answer


async def test_a_write_without_an_answer_is_looked_after(world: World) -> None:
    """It was done: whoever tries it again has nothing to say, and the sweep would come late."""
    store = Store(world)
    outbox = Outbox(world.log, world.clock, lambda _: store)
    documents = outbox.documents("executions")
    store.answers = False
    with pytest.raises(TemporaryError):
        await documents.insert("1", {}, emit=[event("a")])
    with pytest.raises(TemporaryError):
        await documents.change("1", set={"n": 1}, emit=[event("b")])
    await world.clock.advance(seconds(3))
    assert await said(world) == []
    store.answers = True
    await world.clock.advance(seconds(3))

    assert await said(world) == ["a", "b"]
    assert await left(world) == []


async def test_a_write_that_is_cut_off_is_looked_after(world: World) -> None:
    """A handler's time may be up in the middle of it."""
    store = Store(world)
    documents = Outbox(world.log, world.clock, lambda _: store).documents("executions")
    store.hangs = True
    writing = asyncio.create_task(documents.insert("1", {}, emit=[event("a")]))
    await world.clock.advance(seconds(1))
    writing.cancel()
    store.hangs = False
    await world.clock.advance(seconds(3))

    assert writing.cancelled()
    assert await said(world) == ["a"]


async def test_a_refused_write_is_not_looked_after(world: World) -> None:
    """It was answered; and one that says nothing leaves nothing to look for."""
    store = Store(world)
    documents = Outbox(world.log, world.clock, lambda _: store).documents("executions")
    await documents.insert("1", {})
    with pytest.raises(AlreadyExists):
        await documents.insert("1", {}, emit=[event("a")])
    store.answers = False
    with pytest.raises(TemporaryError):
        await documents.change("1", set={"n": 1})
    await world.clock.advance(seconds(3))

    assert store.asked == 0


async def test_an_abandoned_outbox_says_nothing_more(world: World) -> None:
    """The documents still hold it."""
    log = Log(world)
    log.is_away = True
    outbox = outbox_of(world, log)
    await outbox.documents("executions").insert("1", {}, emit=[event("a")])
    await world.clock.advance(seconds(1))
    outbox.abandon()
    log.is_away = False
    await world.clock.advance(seconds(60))

    assert await said(world) == []
    assert await left(world) == ["a"]


async def test_many_events_are_few_appends(world: World) -> None:
    """What is written while the log works goes out together."""
    log = Log(world)
    documents = outbox_of(world, log).documents("executions")
    await asyncio.gather(
        *(documents.insert(str(n), {}, emit=[event(f"e{n}", key=str(n))]) for n in range(100))
    )
    await world.clock.advance(seconds(1))

    assert len(await said(world)) == 100
    assert log.appends < 10


async def test_an_event_that_cannot_be_written_leaves_no_document(world: World) -> None:
    """State and event are one write, also where the event is at fault."""
    documents = outbox_of(world).documents("executions")
    await documents.insert("old", {"a": 1})
    nameless = replace(event("e"), id="")

    with pytest.raises(MalformedEvent):
        await documents.insert("new", {}, emit=[nameless])
    with pytest.raises(MalformedEvent):
        await documents.change("old", set={"a": 2}, emit=[event("ok"), nameless])

    assert await documents.get("new") is None
    assert ((await documents.get("old")) or {})["a"] == 1
    assert await left(world) == []


async def test_a_publisher_returns_once_all_is_acknowledged(world: World) -> None:
    """For events that go with no change."""
    await LogPublisher(world.log).publish([event("a"), event("b")])
    await LogPublisher(world.log).publish([])

    assert await said(world) == ["a", "b"]
