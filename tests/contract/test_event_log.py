"""What every adapter of EventLog promises, told by the port's own words."""

import asyncio
import random
import selectors
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest

from shared.domain.errors import PermanentError
from shared.events.topics import TOPICS, Topic
from shared.ports.event_log import Consumer, EventLog, NewRecord, Record, TopicPartition
from tests.contract.engines import EventLogFactory

FACTS, WORK = Topic.EXECUTION_EVENTS, Topic.EXECUTION_TASKS
AT_ONCE = timedelta(0)
SOON = timedelta(milliseconds=25)
LONG = timedelta(seconds=20)


@dataclass
class Engine:
    """What the tests have to know of the engine at hand."""

    quiet: timedelta


ENGINE = Engine(quiet=timedelta(0))


@pytest.fixture(autouse=True)
def engine(new_event_log_factory: Callable[[], EventLogFactory]) -> None:
    """Get to know the engine at hand."""
    ENGINE.quiet = new_event_log_factory().quiet


@pytest.fixture
async def log(event_log_factory: EventLogFactory) -> EventLog:
    """Return an empty log."""
    return await event_log_factory()


def record(key: str, number: int = 0, *, topic: str = FACTS) -> NewRecord:
    """Return one record of many."""
    return NewRecord(topic, key.encode(), (("ce_type", b"test"),), f"{key}:{number}".encode())


def records(count: int, *, keys: int = 12, topic: str = FACTS) -> list[NewRecord]:
    """Return records whose keys take turns."""
    return [record(f"k{number % keys}", number, topic=topic) for number in range(count)]


def values(found: Iterable[Record]) -> list[str]:
    """Return what records say."""
    return [(each.value or b"").decode() for each in found]


def by_key(found: Iterable[Record]) -> dict[bytes | None, list[int]]:
    """Return, per key, the numbers that its records carry, in order."""
    numbers: dict[bytes | None, list[int]] = defaultdict(list)
    for each in found:
        numbers[each.key].append(int((each.value or b"").split(b":")[1]))
    return numbers


async def drain(*members: Consumer) -> list[Record]:
    """Poll all members in turn until nothing new came for as long as the engine may take."""
    found: list[Record] = []
    silent_since = time.monotonic()
    while time.monotonic() - silent_since < ENGINE.quiet.total_seconds():
        round_of = [await member.poll(timeout=SOON, max_records=50) for member in members]
        found += [each for part in round_of for each in part]
        if any(round_of):
            silent_since = time.monotonic()
    return found


async def settle(*members: Consumer) -> list[Record]:
    """Poll until each partition has one owner among the members; return what was read."""
    found: list[Record] = []
    owned: list[TopicPartition] = []
    while not owned or sorted(owned) != every_place({place.topic for place in owned}):
        for member in members:
            found += await member.poll(timeout=SOON, max_records=50)
        owned = [place for member in members for place in member.assignment]
    return found


def every_place(topics: Iterable[str]) -> list[TopicPartition]:
    """Return all partitions of some topics, in order."""
    return sorted(
        TopicPartition(topic, number)
        for topic in topics
        for number in range(TOPICS[Topic(topic)].partitions)
    )


async def commit_all(member: Consumer, handled: Sequence[Record]) -> None:
    """Commit what was handled."""
    await member.commit({each.place: each.offset + 1 for each in handled})


async def lag(log: EventLog, group: str, topics: Sequence[str] = (FACTS,)) -> int:
    """Return how many records a group has still to handle."""
    positions = await log.positions(group, topics)
    return sum(
        p.end - (p.start if p.committed is None else p.committed) for p in positions.values()
    )


# --- appending and reading ----------------------------------------------------------------------


async def test_a_record_is_read_as_it_was_written(log: EventLog) -> None:
    """Key, header names, repeated headers, bytes of any kind and their order stay as they were."""
    headers = (("b", b"\x00\xff"), ("a", b""), ("b", b"again"), ("ünï", b"1"))
    await log.append([NewRecord(FACTS, b"\x00key\xff", headers, bytes(range(256)))])

    [found] = await drain(await log.join("g", [FACTS]))

    assert (found.topic, found.key, found.headers, found.value) == (
        FACTS,
        b"\x00key\xff",
        headers,
        bytes(range(256)),
    )


@pytest.mark.parametrize("value", [pytest.param(None, id="none"), pytest.param(b"", id="empty")])
async def test_no_value_and_an_empty_one_differ(log: EventLog, value: bytes | None) -> None:
    """A tombstone is read as None, an empty body as no bytes."""
    await log.append([NewRecord(FACTS, b"k", (), value)])

    [found] = await drain(await log.join("g", [FACTS]))

    assert found.value == value
    assert type(found.value) is type(value)


async def test_appending_nothing_is_harmless(log: EventLog) -> None:
    """An empty list is acknowledged at once."""
    await log.append([])

    assert await lag(log, "g") == 0


async def test_records_of_a_key_lie_in_one_partition_in_order(log: EventLog) -> None:
    """A key has one partition, and its offsets rise in the order of appending."""
    for part in range(4):
        await log.append([record("k", part * 3 + number) for number in range(3)])

    found = await drain(await log.join("g", [FACTS]))

    assert len({each.place for each in found}) == 1
    assert [each.offset for each in found] == sorted({each.offset for each in found})
    assert by_key(found) == {b"k": list(range(12))}


async def test_racing_appends_lose_nothing_and_keep_each_callers_order(log: EventLog) -> None:
    """Eight callers append at once; each one's key has all of its records in its order."""

    async def append_all(caller: int) -> None:
        for number in range(0, 40, 2):
            await log.append([record(f"c{caller}", number), record(f"c{caller}", number + 1)])

    await asyncio.gather(*(append_all(caller) for caller in range(8)))

    found = by_key(await drain(await log.join("g", [FACTS])))
    assert found == {f"c{caller}".encode(): list(range(40)) for caller in range(8)}


async def test_many_keys_use_every_partition(log: EventLog) -> None:
    """Keys spread over all partitions of the catalogue."""
    await log.append(records(300, keys=300))

    found = await drain(await log.join("g", [FACTS]))

    assert {each.partition for each in found} == set(range(TOPICS[FACTS].partitions))


async def test_an_unknown_topic_is_refused_for_good(log: EventLog) -> None:
    """A topic that is not in the catalogue takes nothing, now or later."""
    with pytest.raises(PermanentError):
        await log.append([record("k", topic="nobody_knows_me")])


async def test_a_record_that_is_too_large_is_refused_for_good(log: EventLog) -> None:
    """One byte over the topic's limit is refused, and nothing of the call is appended."""
    size = TOPICS[WORK].max_message_bytes + 1
    with pytest.raises(PermanentError):
        await log.append([record("k", topic=WORK), NewRecord(WORK, b"k", (), b"x" * size)])

    assert await lag(log, "g", [WORK]) == 0


async def test_a_large_record_comes_through(log: EventLog) -> None:
    """A body well over a megabyte fits where the catalogue allows it."""
    body = b"x" * (3 * 1024 * 1024)
    await log.append([NewRecord(FACTS, b"k", (), body)])

    [found] = await drain(await log.join("g", [FACTS]))

    assert found.value == body


async def test_read_needs_no_group(log: EventLog) -> None:
    """Records are read from any offset on, at most `limit`, without moving anybody's position."""
    await log.append([record("k", number) for number in range(10)])
    places = await log.positions("g", [FACTS])
    [place] = [place for place, position in places.items() if position.end > position.start]
    first = places[place].start

    middle = await log.read(place, offset=first + 3, limit=4)
    rest = await log.read(place, offset=first + 8, limit=50)
    beyond = await log.read(place, offset=first + 10, limit=50)

    assert values(middle) == [f"k:{number}" for number in (3, 4, 5, 6)]
    assert [each.offset for each in middle] == [first + number for number in (3, 4, 5, 6)]
    assert values(rest) == ["k:8", "k:9"]
    assert list(beyond) == []
    assert await lag(log, "g") == 10


async def test_acknowledged_records_and_commits_survive_a_kill(
    event_log_factory: EventLogFactory,
) -> None:
    """After a crash the group goes on where it had committed; nothing acknowledged is missing."""
    log = await event_log_factory()
    await log.append(records(30))
    member = await log.join("g", [FACTS])
    handled = [*await settle(member), *await drain(member)]
    kept = handled[: len(handled) // 2]
    await commit_all(member, kept)
    committed = {each.place: each.offset + 1 for each in kept}

    await event_log_factory.kill()

    log = await event_log_factory()
    again = await drain(await log.join("g", [FACTS]))
    every = await drain(await log.join("other", [FACTS]))
    positions = await log.positions("g", [FACTS])
    assert sorted(values(every)) == sorted(f"k{number % 12}:{number}" for number in range(30))
    assert {p: x.committed for p, x in positions.items() if x.committed} == committed
    assert all(each.offset >= committed.get(each.place, 0) for each in again)
    assert len(again) + sum(
        committed[place] - positions[place].start for place in committed
    ) == len(every)


# --- groups -------------------------------------------------------------------------------------


async def test_a_new_group_starts_at_the_oldest_record(log: EventLog) -> None:
    """What was appended before a group existed is the group's, too."""
    await log.append(records(24))

    found = await drain(await log.join("late", [FACTS]))

    assert len(found) == 24


async def test_groups_do_not_touch_each_other(log: EventLog) -> None:
    """Each group gets every record; a commit of one leaves the other where it was."""
    one, two = await log.join("one", [FACTS]), await log.join("two", [FACTS])
    await log.append(records(24))

    await commit_all(one, await drain(one))

    assert (await lag(log, "one"), await lag(log, "two")) == (0, 24)
    assert len(await drain(two)) == 24


async def test_a_group_hears_only_its_topics(log: EventLog) -> None:
    """Records of other topics never appear, and several topics may be heard."""
    await log.append([*records(5), *records(5, topic=WORK), record("k", topic=Topic.TIMERS)])

    only = await drain(await log.join("only", [WORK]))
    both = await drain(await log.join("both", [FACTS, WORK]))

    assert {each.topic for each in only} == {WORK}
    assert {each.topic for each in both} == {FACTS, WORK}


async def test_a_commit_decides_where_the_next_member_starts(log: EventLog) -> None:
    """What was handled but not committed comes again; what was committed does not."""
    await log.append([record("k", number) for number in range(10)])
    first = await log.join("g", [FACTS])
    found = await drain(first)
    await commit_all(first, found[:4])
    await first.close()

    again = await drain(await log.join("g", [FACTS]))

    assert values(again) == [f"k:{number}" for number in range(4, 10)]


async def test_closing_commits_nothing(log: EventLog) -> None:
    """A member that leaves without a commit leaves all of its work to the next one."""
    await log.append(records(6))
    first = await log.join("g", [FACTS])
    await drain(first)
    await first.close()

    assert await lag(log, "g") == 6
    assert len(await drain(await log.join("g", [FACTS]))) == 6


async def test_a_group_may_go_back(log: EventLog) -> None:
    """A commit of an earlier offset makes the next member read from there again."""
    await log.append([record("k", number) for number in range(6)])
    first = await log.join("g", [FACTS])
    found = await drain(first)
    await commit_all(first, found)
    await commit_all(first, found[:2])
    await first.close()

    assert values(await drain(await log.join("g", [FACTS]))) == [f"k:{n}" for n in range(2, 6)]


async def test_nothing_is_read_twice_by_one_member(log: EventLog) -> None:
    """Between rebalances each record comes once, with or without commits."""
    member = await log.join("g", [FACTS])
    await settle(member)
    found: list[Record] = []
    for part in range(5):
        await log.append([record(f"k{number}", part) for number in range(12)])
        found += await drain(member)

    assert len(values(found)) == len(set(values(found))) == 60


# --- members ------------------------------------------------------------------------------------


def contiguous(partitions: Iterable[TopicPartition]) -> bool:
    """Say whether partition numbers follow one another."""
    numbers = sorted(place.partition for place in partitions)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
async def test_partitions_are_shared_out_by_ranges(log: EventLog, count: int) -> None:
    """Every partition has one owner, shares differ by one at most, each is a contiguous range."""
    members = [await log.join("g", [FACTS]) for _ in range(count)]

    await settle(*members)

    owned = [place for member in members for place in member.assignment]
    sizes = [len(member.assignment) for member in members]
    assert sorted(owned) == sorted(await log.positions("g", [FACTS]))
    assert max(sizes) - min(sizes) <= 1
    assert all(contiguous(member.assignment) for member in members)


async def test_topics_are_shared_out_one_by_one(log: EventLog) -> None:
    """With several topics, each is divided among those that hear it."""
    both, one = await log.join("g", [FACTS, WORK]), await log.join("g", [FACTS])

    await settle(both, one)

    assert {place.topic for place in one.assignment} == {FACTS}
    assert len([p for p in both.assignment if p.topic == WORK]) == TOPICS[WORK].partitions
    assert not both.assignment & one.assignment


async def test_the_first_poll_brings_the_assignment(log: EventLog) -> None:
    """Before it, a member owns nothing."""
    member = await log.join("g", [FACTS])
    before = member.assignment

    await settle(member)

    assert before == frozenset()
    assert len(member.assignment) == TOPICS[FACTS].partitions


async def test_the_assignment_changes_only_inside_poll(log: EventLog) -> None:
    """Whoever handles records between two polls may trust what it owns."""
    first = await log.join("g", [FACTS])
    await settle(first)
    before = first.assignment

    second = await log.join("g", [FACTS])
    unpolled = first.assignment
    await settle(first, second)

    assert unpolled == before
    assert first.assignment < before


async def test_who_leaves_hands_over_at_once(log: EventLog) -> None:
    """The others own everything after their next polls, and go on at the commits."""
    first, second = await log.join("g", [FACTS]), await log.join("g", [FACTS])
    await settle(first, second)
    await log.append(records(24))
    handled = await drain(first)
    await commit_all(first, handled)

    await first.close()
    found = [*await settle(second), *await drain(second)]

    assert len(second.assignment) == TOPICS[FACTS].partitions
    assert sorted([*values(handled), *values(found)]) == sorted(
        f"k{number % 12}:{number}" for number in range(24)
    )


async def test_who_joins_starts_at_the_commits(log: EventLog) -> None:
    """A partition that moves goes on at its committed offset, so handled work is not repeated."""
    first = await log.join("g", [FACTS])
    await log.append(records(24))
    await commit_all(first, await drain(first))
    second = await log.join("g", [FACTS])
    await settle(first, second)
    await log.append([record(f"k{number}", 100) for number in range(12)])

    found = await drain(first, second)

    assert sorted(values(found)) == sorted(f"k{number}:100" for number in range(12))


async def test_a_share_may_change_while_it_is_taken_over(log: EventLog) -> None:
    """Members that come and go during somebody's poll neither break it nor cost a record."""
    await log.append(records(24))
    first = await log.join("g", [FACTS])
    polling = asyncio.create_task(first.poll(timeout=SOON, max_records=50))
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop: the poll is under way

    second = await log.join("g", [FACTS])
    found = [*await polling, *await drain(first, second)]

    assert {*values(found)} == {f"k{number % 12}:{number}" for number in range(24)}
    assert not first.assignment & second.assignment


async def test_a_closed_member_reads_nothing(log: EventLog) -> None:
    """A poll after leaving, or one that the leaving ends, comes back empty."""
    await log.append(records(24))
    member = await log.join("g", [FACTS])
    await member.poll(timeout=SOON, max_records=1)

    await member.close()

    assert list(await member.poll(timeout=SOON, max_records=50)) == []


async def test_a_commit_for_a_lost_partition_is_left_out(log: EventLog) -> None:
    """Who lost a partition no longer moves its offset, and learns of no error."""
    await log.append(records(24))
    first = await log.join("g", [FACTS])
    handled = await drain(first)
    second = await log.join("g", [FACTS])
    await settle(first, second)

    await commit_all(first, handled)

    positions = await log.positions("g", [FACTS])
    moved = {place for place, position in positions.items() if position.committed == position.end}
    assert moved == first.assignment
    assert second.assignment.isdisjoint(moved)


async def test_a_commit_after_closing_is_left_out(log: EventLog) -> None:
    """A member that left owns nothing, so it commits nothing."""
    await log.append(records(6))
    member = await log.join("g", [FACTS])
    handled = await drain(member)
    await member.close()

    await commit_all(member, handled)

    assert await lag(log, "g") == 6


async def shuffle_members(
    log: EventLog, chance: random.Random, handled: Callable[[Record], None]
) -> None:
    """Let members join, leave, crash uncommitted and work at random while records come."""
    members: list[Consumer] = []
    for step in range(60):
        await log.append([record(f"k{number}", step) for number in range(6)])
        if len(members) < 3 and chance.random() < 0.4:
            members.append(await log.join("g", [FACTS]))
        if members and chance.random() < 0.2:
            await members.pop(chance.randrange(len(members))).close()
        for member in members:
            found = await member.poll(timeout=AT_ONCE, max_records=chance.randint(1, 9))
            for each in found:
                handled(each)
            if chance.random() < 0.8:
                await commit_all(member, found)
    for member in members:
        await member.close()


@pytest.mark.parametrize("seed", range(5))
async def test_every_record_reaches_a_group_whatever_its_members_do(
    log: EventLog, seed: int
) -> None:
    """Nothing is missed, and whatever of a key is seen for the first time comes in order."""
    seen: dict[bytes | None, list[int]] = defaultdict(list)

    def handled(each: Record) -> None:
        number = int((each.value or b"").split(b":")[1])
        if number not in seen[each.key]:
            seen[each.key].append(number)

    await shuffle_members(log, random.Random(seed), handled)  # noqa: S311 - a seed, no secret
    last = await log.join("g", [FACTS])
    while await lag(log, "g"):
        found = await last.poll(timeout=SOON, max_records=50)
        for each in found:
            handled(each)
        await commit_all(last, found)

    assert seen == {f"k{number}".encode(): list(range(60)) for number in range(6)}


# --- polling ------------------------------------------------------------------------------------


async def test_poll_keeps_to_its_maximum(log: EventLog) -> None:
    """No answer is longer than asked for, and the rest comes with the next ones."""
    await log.append(records(25))
    member = await log.join("g", [FACTS])
    sizes: list[int] = []

    while sum(sizes) < 25:
        sizes.append(len(await member.poll(timeout=SOON, max_records=10)))

    assert max(sizes) <= 10
    assert sum(sizes) == 25


async def test_paused_partitions_are_silent_and_lose_nothing(log: EventLog) -> None:
    """While paused a partition gives nothing, others flow; resumed, it goes on where it was."""
    member = await log.join("g", [FACTS])
    await settle(member)
    await log.append(records(60, keys=60))
    places = {r.place for p in member.assignment for r in await log.read(p, offset=0, limit=1)}
    paused = set(sorted(places)[:3])

    member.pause(paused)
    during = await drain(member)
    member.resume(paused)
    after = await drain(member)

    assert {each.place for each in during} == places - paused
    assert {each.place for each in after} == paused
    assert len({*values(during), *values(after)}) == len(during) + len(after) == 60


async def test_a_partition_paused_in_the_middle_repeats_nothing(log: EventLog) -> None:
    """Pausing after a part was read neither repeats nor skips a record."""
    await log.append([record("k", number) for number in range(20)])
    member = await log.join("g", [FACTS])
    first: Sequence[Record] = ()
    while not first:
        first = await member.poll(timeout=SOON, max_records=5)
    member.pause(member.assignment)
    during = await drain(member)

    member.resume(member.assignment)
    rest = await drain(member)

    assert list(during) == []
    assert by_key([*first, *rest]) == {b"k": list(range(20))}


async def test_poll_gives_up_after_its_timeout(log: EventLog) -> None:
    """With nothing to read it comes back empty, no earlier than asked for and not much later."""
    member = await log.join("g", [FACTS])
    await settle(member)
    before = time.monotonic()

    found = await member.poll(timeout=timedelta(milliseconds=200), max_records=1)

    took = time.monotonic() - before
    assert list(found) == []
    assert 0.19 <= took < 1.5


async def test_poll_returns_as_soon_as_there_is_something(log: EventLog) -> None:
    """A waiting poll is woken by a record, long before its timeout."""
    member = await log.join("g", [FACTS])
    await settle(member)
    waiting = asyncio.create_task(member.poll(timeout=LONG, max_records=10))
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop, no wait
    before = time.monotonic()

    await log.append([record("k")])
    found = await waiting

    assert values(found) == ["k:0"]
    assert time.monotonic() - before < 2


class CountingSelector(selectors.DefaultSelector):
    """Counts how often the event loop looks for something to do."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Count and pass on."""
        self.turns += 1
        return super().select(timeout)


def test_waiting_costs_no_processor_time(
    new_event_log_factory: Callable[[], EventLogFactory],
) -> None:
    """A poll of half a second wakes a handful of times; one that spins, thousands of times."""
    selector = CountingSelector()

    async def turns_of_an_idle_poll() -> int:
        factory = new_event_log_factory()
        member = await (await factory()).join("g", [FACTS])
        await settle(member)
        before = selector.turns
        await member.poll(timeout=timedelta(milliseconds=500), max_records=1)
        turns = selector.turns - before
        await member.close()
        await factory.close()
        return turns

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        assert runner.run(turns_of_an_idle_poll()) < 50


# --- positions ----------------------------------------------------------------------------------


async def test_positions_name_every_partition(log: EventLog) -> None:
    """Also for a group that never was and topics without records."""
    positions = await log.positions("nobody", [FACTS, WORK])

    assert sorted(positions) == every_place([FACTS, WORK])


async def test_before_the_first_commit_there_is_none(log: EventLog) -> None:
    """None means never committed, which is not the same as zero; the whole log is lag."""
    await log.append(records(12))

    positions = await log.positions("g", [FACTS])

    assert {position.committed for position in positions.values()} == {None}
    assert sum(position.end - position.start for position in positions.values()) == 12


async def test_reading_is_no_commit(log: EventLog) -> None:
    """What was read and not committed is lag as before."""
    await log.append(records(12))
    member = await log.join("g", [FACTS])

    await drain(member)

    assert await lag(log, "g") == 12


async def test_lag_follows_appends_and_commits(log: EventLog) -> None:
    """It rises with every record and falls with every commit, never with a poll."""
    member = await log.join("g", [FACTS])
    await settle(member)
    seen: list[int] = [await lag(log, "g")]

    await log.append(records(10))
    seen.append(await lag(log, "g"))
    found = await drain(member)
    seen.append(await lag(log, "g"))
    await commit_all(member, found)
    seen.append(await lag(log, "g"))
    await log.append(records(3))
    seen.append(await lag(log, "g"))

    assert seen == [0, 10, 10, 0, 3]


async def test_looking_at_positions_joins_nothing(log: EventLog) -> None:
    """Whoever looks takes no partition away from the members."""
    member = await log.join("g", [FACTS])
    await settle(member)
    before = member.assignment

    await log.positions("g", [FACTS])
    await member.poll(timeout=SOON, max_records=1)

    assert member.assignment == before


async def test_commits_are_seen_by_positions(log: EventLog) -> None:
    """What a member committed is the committed position of exactly those partitions."""
    await log.append([record("k", number) for number in range(5)])
    member = await log.join("g", [FACTS])
    found = await drain(member)

    await member.commit({found[2].place: found[2].offset + 1})

    committed: Mapping[TopicPartition, int | None] = {
        place: position.committed for place, position in (await log.positions("g", [FACTS])).items()
    }
    assert {place: at for place, at in committed.items() if at} == {
        found[2].place: found[2].offset + 1
    }
