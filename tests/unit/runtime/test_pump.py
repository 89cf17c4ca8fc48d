"""One replica's loop: nothing is committed before it is handled, nothing holds up the rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from shared.domain.errors import EngineAway, PermanentError, TemporaryError
from shared.events.codec import header
from shared.events.event import Event
from shared.events.executions import ExecutionCancelRequested, ExecutionStarted
from shared.events.timers import TimerDue
from shared.events.topics import Topic
from shared.ports.event_log import NewRecord, Record, TopicPartition
from shared.ports.functions import FunctionSpec
from shared.runtime.functions import Function
from shared.runtime.outbox import record_of
from shared.runtime.pump import Pump
from tests import builders
from tests.builders import START, World, seconds

TOPIC = Topic.EXECUTION_EVENTS


class Needs(NamedTuple):
    """Nothing."""


SPEC = FunctionSpec(slug="tester", consumes=(ExecutionStarted, TimerDue), needs=Needs)


def function(
    handle: Callable[[Event, Any], Awaitable[None]] | None = None,
    *,
    spec: FunctionSpec = SPEC,
    batch: Callable[[Sequence[Event], Any], Awaitable[None]] | None = None,
    record: Callable[[Record, Any], Awaitable[None]] | None = None,
) -> Function:
    """Return a function with given entry points."""
    return Function(
        spec=spec,
        handle=handle,
        handle_batch=batch,
        handle_record=record,
        run=None,
        reconcile=None,
    )


def started(key: str = "k", number: int = 0, **more: Any) -> NewRecord:
    """Return the record of an event."""
    data = ExecutionStarted(execution_id=key, user_id="u", pod_name=f"{number}", started_at=START)
    event = builders.event(data, subject=key, event_id=f"{key}:{number}", **more)
    return record_of(event)


def number_of(event: Event) -> int:
    """Return the number that an event was made with."""
    data: Any = event.data
    return int(data.pod_name)


class Seen:
    """A handler that notes what it sees, and can be told to misbehave."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: dict[str, list[Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside = 0
        self.most_inside = 0

    async def __call__(self, event: Event, _: Any) -> None:
        """Note the event once the gate is open."""
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.gate.wait()
            errors = self.errors.get(event.id, [])
            if errors:
                raise errors.pop(0)
            self.events.append(event)
        finally:
            self.inside -= 1

    @property
    def ids(self) -> list[str]:
        """Return the ids of what was handled."""
        return [event.id for event in self.events]


@asynccontextmanager
async def running(world: World, one: Function, log: Any = None) -> AsyncIterator[Pump]:
    """Run a pump, and stop it at the end."""
    pump = Pump(one, Needs(), log or world.log, world.clock)
    task = asyncio.create_task(pump.run())
    await world.clock.settle()
    try:
        yield pump
    finally:
        pump.stop()
        await world.clock.advance(seconds(60))
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        elif not task.cancelled():
            task.exception()


async def committed(world: World, topic: str = TOPIC) -> int:
    """Return how many records of a topic the group is done with."""
    positions = await world.log.positions("tester", [topic])
    return sum((position.committed or 0) for position in positions.values())


async def letters(world: World) -> list[Record]:
    """Return the dead letters."""
    found: list[Record] = []
    for partition in range(3):
        place = TopicPartition(Topic.DEAD_LETTERS, partition)
        found += await world.log.read(place, offset=0, limit=100)
    return found


async def test_records_of_one_key_keep_their_order(world: World) -> None:
    """Whatever the others do."""
    seen = Seen()
    async with running(world, function(seen)):
        await world.log.append([started(key, n) for n in range(20) for key in "ab"])
        await world.clock.advance(seconds(1))

    assert [number_of(e) for e in seen.events if e.subject == "a"] == list(range(20))
    assert [number_of(e) for e in seen.events if e.subject == "b"] == list(range(20))


async def test_keys_run_side_by_side_up_to_the_limit(world: World) -> None:
    """One slow key holds up no other; too many at once are not begun."""
    seen = Seen()
    seen.gate.clear()
    spec = replace(SPEC, concurrency=3)
    async with running(world, function(seen, spec=spec)):
        await world.log.append([started(f"k{n}") for n in range(10)])
        await world.clock.advance(seconds(1))
        assert seen.inside == 3
        seen.gate.set()
        await world.clock.advance(seconds(1))

    assert seen.most_inside == 3
    assert len(seen.events) == 10


async def test_nothing_is_committed_before_it_is_handled(world: World) -> None:
    """A crash repeats it."""
    seen = Seen()
    seen.gate.clear()
    async with running(world, function(seen)):
        await world.log.append([started()])
        await world.clock.advance(seconds(5))
        assert await committed(world) == 0
        seen.gate.set()
        await world.clock.advance(seconds(5))
        assert await committed(world) == 1


async def test_a_slow_record_holds_back_the_commit_of_those_behind_it(world: World) -> None:
    """Of its partition; they are handled all the same."""
    slow = asyncio.Event()
    handled: list[str] = []

    async def handle(event: Event, _: Any) -> None:
        if event.subject == "slow":
            await slow.wait()
        handled.append(event.subject)

    others = [f"k{n}" for n in range(30)]
    async with running(world, function(handle)):
        await world.log.append([started("slow"), *(started(key) for key in others)])
        await world.clock.advance(seconds(5))
        assert sorted(handled) == sorted(others)
        assert await committed(world) < 30
        slow.set()
        await world.clock.advance(seconds(5))
        assert await committed(world) == 31


async def test_types_of_others_are_passed_over(world: World) -> None:
    """And committed."""
    seen = Seen()
    other = NewRecord(TOPIC, b"k", (("ce_type", b"execution.queued"),), b"not even read")
    async with running(world, function(seen)) as pump:
        await world.log.append([other])
        await world.clock.advance(seconds(1))
        assert (await committed(world), pump.counts.skipped) == (1, 1)

    assert seen.events == []


@pytest.mark.parametrize("accepts", [False, True])
async def test_replayed_events_reach_only_who_accepts_them(
    world: World,
    accepts: bool,  # noqa: FBT001
) -> None:
    """A replay is inert."""
    seen = Seen()
    async with running(world, function(seen, spec=replace(SPEC, accepts_replay=accepts))):
        await world.log.append([started(replay_id="r")])
        await world.clock.advance(seconds(1))

    assert len(seen.events) == accepts


async def test_a_replay_in_structured_mode_is_no_way_around(world: World) -> None:
    """The mark is in the body there."""
    seen = Seen()
    body = (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"execution.started","subject":"k",'
        b'"replayid":"r","partitionkey":"k","data":{"execution_id":"k","user_id":"u",'
        b'"pod_name":"1","started_at":"2026-01-01T00:00:00Z"}}'
    )
    structured = (("content-type", b"application/cloudevents+json"),)
    async with running(world, function(seen)):
        await world.log.append([NewRecord(TOPIC, b"k", structured, body)])
        await world.log.append(
            [NewRecord(TOPIC, b"k", structured, body.replace(b'"replayid":"r",', b""))]
        )
        await world.clock.advance(seconds(1))

    assert len(seen.events) == 1
    assert await letters(world) == []


@pytest.mark.parametrize(("target", "expected"), [("tester", 1), ("another", 0)])
async def test_a_timer_is_for_its_target(world: World, target: str, expected: int) -> None:
    """All who have timers share one topic."""
    seen = Seen()
    due = TimerDue(timer_id="t", target=target, kind="k", key="k", due_at=START)
    async with running(world, function(seen)):
        await world.log.append([record_of(builders.event(due))])
        await world.clock.advance(seconds(1))

    assert len(seen.events) == expected


@pytest.mark.parametrize(("target", "expected"), [(b"tester", 1), (b"another", 0)])
async def test_a_retry_is_for_the_function_that_failed(
    world: World, target: bytes, expected: int
) -> None:
    """The others did it long ago."""
    seen = Seen()
    retried = started()
    retried = replace(retried, headers=(*retried.headers, ("dlqtarget", target)))
    async with running(world, function(seen)):
        await world.log.append([retried])
        await world.clock.advance(seconds(1))

    assert len(seen.events) == expected


async def test_a_temporary_error_is_tried_again(world: World) -> None:
    """Once, in process."""
    seen = Seen()
    seen.errors["k:0"] = [TemporaryError("busy")]
    async with running(world, function(seen)):
        await world.log.append([started(), started("k", 1)])
        await world.clock.advance(seconds(3))

    assert seen.ids == ["k:0", "k:1"]
    assert await letters(world) == []


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param([PermanentError("never")], id="permanent"),
        pytest.param([TemporaryError("busy")] * 2, id="temporary"),
        pytest.param([ValueError("bug")] * 2, id="bug"),
        pytest.param([TimeoutError()] * 2, id="timeout"),
    ],
)
async def test_what_fails_is_a_dead_letter_and_the_partition_moves_on(
    world: World, errors: list[Exception]
) -> None:
    """Within five seconds."""
    seen = Seen()
    seen.errors["k:0"] = errors
    async with running(world, function(seen)) as pump:
        await world.log.append([started(), started("k", 1)])
        await world.clock.advance(seconds(5))
        assert await committed(world) == 2
        assert pump.counts.dead_lettered == 1

    assert seen.ids == ["k:1"]
    (letter,) = await letters(world)
    assert header(letter.headers, "dlqfunction") == b"tester"
    assert letter.value == started().value


async def test_an_absent_engine_is_waited_for(world: World) -> None:
    """Everybody's events would fail: dead letters would only bring them out of order."""
    seen = Seen()
    seen.errors["k:0"] = [EngineAway("no answer")] * 20
    async with running(world, function(seen)):
        await world.log.append([started(), started("k", 1)])
        await world.clock.advance(seconds(60))

    assert seen.ids == ["k:0", "k:1"]
    assert await letters(world) == []


async def test_what_no_engine_ever_answers_is_a_dead_letter_in_the_end(world: World) -> None:
    """It may be the event's own question that is never answered."""
    seen = Seen()
    seen.errors["k:0"] = [EngineAway("no answer")] * 1000
    async with running(world, function(seen)):
        await world.log.append([started(), started("k", 1)])
        await world.clock.advance(seconds(310))

    assert seen.ids == ["k:1"]
    assert len(await letters(world)) == 1


async def test_poison_is_a_dead_letter(world: World) -> None:
    """Bytes that are no event, and nothing else waits for it."""
    seen = Seen()
    async with running(world, function(seen)):
        await world.log.append([NewRecord(TOPIC, b"k", (), b"\xff"), started()])
        await world.clock.advance(seconds(1))

    assert len(await letters(world)) == 1
    assert seen.ids == ["k:0"]


class Flaky:
    """A log that takes no dead letters for a while."""

    def __init__(self, world: World, refusals: int) -> None:
        self.inner = world.log
        self.refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append, or say that there is no answer."""
        if self.refusals:
            self.refusals -= 1
            raise TemporaryError("away")
        await self.inner.append(records)


async def test_nothing_is_committed_before_its_dead_letter_is_acknowledged(world: World) -> None:
    """However long that takes."""
    seen = Seen()
    seen.errors["k:0"] = [PermanentError("never")]
    async with running(world, function(seen), Flaky(world, 20)):
        await world.log.append([started()])
        await world.clock.advance(seconds(15))
        assert await committed(world) == 0
        await world.clock.advance(seconds(15))
        assert await committed(world) == 1


async def test_a_stop_does_not_wait_for_a_log_that_is_away(world: World) -> None:
    """What could not be told stays uncommitted, for the next one."""
    seen = Seen()
    seen.errors["k:0"] = [PermanentError("never")]
    pump = Pump(function(seen), Needs(), Flaky(world, 1000), world.clock)
    task = asyncio.create_task(pump.run())
    await world.log.append([started(), started("k", 1)])
    await world.clock.advance(seconds(5))

    pump.stop()
    await world.clock.advance(seconds(2))

    assert task.done()
    assert await committed(world) == 0


async def test_a_stop_finishes_what_was_begun(world: World) -> None:
    """And commits it."""
    seen = Seen()
    seen.gate.clear()
    pump = Pump(function(seen), Needs(), world.log, world.clock)
    task = asyncio.create_task(pump.run())
    await world.log.append([started()])
    await world.clock.advance(seconds(1))

    pump.stop()
    await world.clock.advance(seconds(1))
    assert not task.done()
    seen.gate.set()
    await world.clock.advance(seconds(1))

    assert task.done()
    assert await committed(world) == 1


async def test_another_replica_goes_on_where_the_commit_was(world: World) -> None:
    """It repeats what was not committed, and nothing else."""
    first, second = Seen(), Seen()
    async with running(world, function(first)):
        await world.log.append([started("k", n) for n in range(5)])
        await world.clock.advance(seconds(1))
    async with running(world, function(second)):
        await world.log.append([started("k", 5)])
        await world.clock.advance(seconds(1))

    assert second.ids == ["k:5"]


async def test_two_replicas_share_the_partitions(world: World) -> None:
    """Each record is handled by one of them."""
    first, second = Seen(), Seen()
    async with running(world, function(first)), running(world, function(second)):
        await world.clock.advance(seconds(1))
        await world.log.append([started(f"k{n}") for n in range(60)])
        await world.clock.advance(seconds(1))

    assert len(first.events) + len(second.events) == 60
    assert first.events
    assert second.events


async def test_what_another_replica_took_over_is_not_committed_here(world: World) -> None:
    """It was being handled when the partition was taken away."""
    slow, quick = Seen(), Seen()
    slow.gate.clear()
    async with running(world, function(slow)):
        await world.log.append([started(f"k{n}") for n in range(12)])
        await world.clock.advance(seconds(1))
        async with running(world, function(quick)):
            await world.clock.advance(seconds(1))
            taken = set(quick.ids)
            assert taken
            slow.gate.set()
            await world.clock.advance(seconds(1))
            assert await committed(world) == 12

    assert taken | set(slow.ids) == {f"k{n}:0" for n in range(12)}


async def test_a_partition_that_falls_behind_is_paused(world: World) -> None:
    """Memory stays bounded, and nothing is lost."""
    seen = Seen()
    seen.gate.clear()
    async with running(world, function(seen)) as pump:
        for _ in range(20):
            await world.log.append([started("k", n) for n in range(100)])
        await world.clock.advance(seconds(1))
        assert sum(mark.outstanding for mark in pump._marks.values()) <= 1000
        seen.gate.set()
        await world.clock.advance(seconds(5))
        assert await committed(world) == 2000

    assert len(seen.events) == 2000


async def test_the_keeper_of_dead_letters_waits_out_its_store(world: World) -> None:
    """Its own dead letters would come back to itself; a thousand tries are fine."""
    tries = 0

    async def keep(_: Record, __: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 1000:
            raise TemporaryError("away")

    spec = FunctionSpec(slug="tester", whole_topics=(Topic.DEAD_LETTERS,), needs=Needs, raw=True)
    async with running(world, function(spec=spec, record=keep)):
        await world.log.append([NewRecord(Topic.DEAD_LETTERS, b"k", (), None)])
        await world.clock.advance(timedelta(hours=1))
        assert await committed(world, Topic.DEAD_LETTERS) == 1

    assert tries == 1000


async def test_a_worker_that_dies_is_no_silent_standstill(world: World) -> None:
    """Whoever runs the pump hears of it and starts again."""

    async def handle(_: Event, __: Any) -> None:
        raise asyncio.CancelledError

    pump = Pump(function(handle), Needs(), world.log, world.clock)
    task = asyncio.create_task(pump.run())
    await world.log.append([started()])
    await world.clock.advance(seconds(1))

    assert isinstance(task.exception(), RuntimeError)


async def test_facts_that_come_together_are_handled_together(world: World) -> None:
    """In the order in which they came, over all topics of a key."""
    batches: list[list[str]] = []

    async def batch(events: Sequence[Event], _: Any) -> None:
        batches.append([event.id for event in events])

    spec = replace(SPEC, linger=timedelta(milliseconds=25))
    async with running(world, function(batch=batch, spec=spec)):
        await world.log.append([started("a", n) for n in range(3)] + [started("b")])
        await world.clock.advance(seconds(2))
        assert await committed(world) == 4

    assert sorted(batches) == [["a:0", "a:1", "a:2"], ["b:0"]]


async def test_what_is_urgent_waits_for_nothing_else_to_come(world: World) -> None:
    """It takes along what had gathered; what comes after it gathers again."""
    batches: list[tuple[float, list[str]]] = []

    async def batch(events: Sequence[Event], _: Any) -> None:
        batches.append((world.clock.monotonic(), [event.type for event in events]))

    cancel = ExecutionCancelRequested(execution_id="a", user_id="u", cancelled_by="u")
    wanted = (ExecutionStarted, ExecutionCancelRequested)
    urgent = (ExecutionCancelRequested,)
    spec = replace(SPEC, linger=seconds(10), consumes=wanted, urgent=urgent)
    begun = world.clock.monotonic()
    async with running(world, function(batch=batch, spec=spec)):
        await world.log.append([started("a")])
        await world.clock.advance(seconds(1))
        await world.log.append([record_of(builders.event(cancel, subject="a"))])
        await world.clock.advance(seconds(1))
        await world.log.append([started("a", 1), record_of(builders.event(cancel, subject="b"))])
        await world.clock.advance(seconds(15))
        assert await committed(world) == 4

    both = [ExecutionStarted.TYPE, ExecutionCancelRequested.TYPE]
    times, types = zip(*batches, strict=True)
    assert types == (both, [ExecutionCancelRequested.TYPE], [ExecutionStarted.TYPE])
    assert [round(at - begun) for at in times] == [1, 2, 12]


async def test_one_bad_fact_of_a_batch_is_told_from_the_good(world: World) -> None:
    """Only it becomes a dead letter."""
    seen = Seen()
    seen.errors["a:1"] = [PermanentError("never")]

    async def batch(_: Sequence[Event], __: Any) -> None:
        raise PermanentError("one of them")

    async with running(world, function(seen, batch=batch)):
        await world.log.append([started("a", n) for n in range(3)])
        await world.clock.advance(seconds(1))
        assert await committed(world) == 3

    assert seen.ids == ["a:0", "a:2"]
    assert len(await letters(world)) == 1


async def test_a_batch_that_could_not_be_told_is_not_committed(world: World) -> None:
    """The same as for single ones."""
    seen = Seen()
    seen.errors["a:0"] = [PermanentError("never")]

    async def batch(_: Sequence[Event], __: Any) -> None:
        raise PermanentError("one of them")

    pump = Pump(function(seen, batch=batch), Needs(), Flaky(world, 1000), world.clock)
    task = asyncio.create_task(pump.run())
    await world.log.append([started("a", n) for n in range(3)])
    await world.clock.advance(seconds(5))
    pump.stop()
    await world.clock.advance(seconds(5))

    assert task.done()
    assert await committed(world) == 0


async def test_data_of_no_interest_is_never_decoded(world: World) -> None:
    """Most records of a shared topic are for others."""
    seen = Seen()
    unknown = NewRecord(TOPIC, b"k", (("ce_type", b"execution.invented"),), b"{")
    async with running(world, function(seen)):
        await world.log.append([unknown])
        await world.clock.advance(seconds(1))

    assert seen.events == []
    assert await letters(world) == []
