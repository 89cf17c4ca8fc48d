"""What the event loop sees of a member, whatever the thread does in the meantime."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.adapters.kafka.consumer import KafkaMember
from shared.adapters.kafka.handover import Commit, Handover, Share
from shared.domain.errors import EngineAway
from shared.ports.event_log import Record, TopicPartition

A, B = TopicPartition("topic", 0), TopicPartition("topic", 1)
NOW = timedelta(0)
LONG = timedelta(seconds=20)


class Membership:
    """The other side, driven by the test: it stores what it is told to, or refuses."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.error: Exception | None = None
        self.has_left = asyncio.get_running_loop().create_future()

    def commit(self, commit: Commit) -> None:
        """Store at once."""
        self.commits.append(commit)
        commit.end(self.error)

    def leave(self) -> "asyncio.Future[None]":
        """Leave at once."""
        if not self.has_left.done():
            self.has_left.set_result(None)
        return self.has_left


@pytest.fixture
async def membership() -> Membership:
    """Return the other side."""
    return Membership()


@pytest.fixture
async def handover() -> Handover:
    """Return what lies in between."""
    return Handover()


@pytest.fixture
async def member(membership: Membership, handover: Handover) -> KafkaMember:
    """Return a member that has nothing yet."""
    return KafkaMember(membership, handover, closed=lambda _: None)


def records(place: TopicPartition, *offsets: int, size: int = 1) -> list[Record]:
    """Return records of a partition."""
    return [Record(*place, offset, b"k", (), b"x" * size) for offset in offsets]


async def offsets(member: KafkaMember, most: int = 100) -> list[tuple[int, int]]:
    """Return partition and offset of what a poll brings."""
    found = await member.poll(timeout=NOW, max_records=most)
    return [(record.partition, record.offset) for record in found]


async def test_the_assignment_waits_for_a_poll(member: KafkaMember, handover: Handover) -> None:
    """Whoever handles records between two polls may trust what it owns."""
    handover.put({A: 1}, {A: records(A, 0)})
    before = member.assignment

    found = await offsets(member)

    assert before == frozenset()
    assert member.assignment == {A}
    assert found == [(0, 0)]


async def test_what_was_lost_is_no_longer_given(member: KafkaMember, handover: Handover) -> None:
    """Another member reads it from its commit."""
    handover.put({A: 1, B: 2}, {A: records(A, 0), B: records(B, 0)})
    handover.put({B: 2}, {})

    assert await offsets(member) == [(1, 0)]
    assert member.assignment == {B}


async def test_what_was_lost_and_is_back_is_missing_once(
    member: KafkaMember, handover: Handover
) -> None:
    """Even if both happened between two polls: offsets fall, so they have to be counted anew."""
    handover.put({A: 1, B: 2}, {A: records(A, 5, 6)})
    await offsets(member, most=1)
    handover.put({A: 3, B: 2}, {A: records(A, 4, 5, 6)})

    during = await offsets(member)
    share_during = member.assignment
    after = await offsets(member)

    assert during == []
    assert share_during == {B}
    assert after == [(0, 4), (0, 5), (0, 6)]
    assert member.assignment == {A, B}


async def test_a_loss_in_the_middle_of_a_poll_gives_nothing_of_it(
    member: KafkaMember, handover: Handover
) -> None:
    """A poll that has waited shows the loss first, and the records of the second time later."""
    handover.put({A: 1}, {})
    await offsets(member)
    waiting = asyncio.create_task(member.poll(timeout=LONG, max_records=10))
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop: the poll is under way

    await asyncio.to_thread(handover.put, {A: 2}, {A: records(A, 0)})

    assert list(await waiting) == []
    assert member.assignment == frozenset()
    assert await offsets(member) == [(0, 0)]


async def test_what_stays_goes_on_where_it_was(member: KafkaMember, handover: Handover) -> None:
    """A gain of one partition neither drops nor repeats records of another."""
    handover.put({A: 1}, {A: records(A, 0, 1)})
    await offsets(member, most=1)
    handover.put({A: 1, B: 2}, {B: records(B, 0)})

    assert sorted(await offsets(member)) == [(0, 1), (1, 0)]


async def test_no_partition_waits_for_another(member: KafkaMember, handover: Handover) -> None:
    """With more than fits in one answer they take turns."""
    handover.put({A: 1, B: 2}, {A: records(A, *range(10)), B: records(B, *range(10))})

    answers = [await offsets(member, most=3) for _ in range(4)]

    assert [{partition for partition, _ in answer} for answer in answers] == [{0}, {1}, {0}, {1}]


async def test_a_paused_partition_is_forgotten_with_its_loss(
    member: KafkaMember, handover: Handover
) -> None:
    """Where it comes back nobody remembers why it was paused."""
    handover.put({A: 1}, {A: records(A, 0)})
    await member.poll(timeout=NOW, max_records=1)
    member.pause([A])
    handover.put({A: 2}, {A: records(A, 0)})

    answers = [await offsets(member), await offsets(member)]

    assert answers == [[], [(0, 0)]]


async def test_a_poll_is_woken_by_the_thread(member: KafkaMember, handover: Handover) -> None:
    """However long it may wait."""
    handover.put({A: 1}, {})
    await offsets(member)

    putting = threading.Timer(0.01, handover.put, ({A: 1}, {A: records(A, 0)}))
    putting.start()
    async with asyncio.timeout(5):
        found = await member.poll(timeout=LONG, max_records=10)

    assert len(found) == 1
    putting.join()


async def test_an_error_is_told_once(member: KafkaMember, handover: Handover) -> None:
    """The next poll goes on: the thread has begun anew."""
    handover.put({A: 1}, {})
    await offsets(member)
    handover.fail(EngineAway("gone"))
    handover.put({}, {})

    with pytest.raises(EngineAway, match="gone"):
        await member.poll(timeout=NOW, max_records=10)
    assert await offsets(member) == []
    assert member.assignment == frozenset()


async def test_a_commit_carries_the_time_that_it_belongs_to(
    member: KafkaMember, membership: Membership, handover: Handover
) -> None:
    """So that one from before a loss can be told from one after it."""
    handover.put({A: 1, B: 2}, {})
    await offsets(member)
    handover.put({A: 3, B: 2}, {})

    await member.commit({A: 7, B: 8, TopicPartition("topic", 9): 1})

    assert [commit.offsets for commit in membership.commits] == [{A: (7, 1), B: (8, 2)}]


async def test_a_commit_that_failed_says_so(
    member: KafkaMember, membership: Membership, handover: Handover
) -> None:
    """Whoever commits may do it again."""
    handover.put({A: 1}, {})
    await offsets(member)
    membership.error = EngineAway("no answer")

    with pytest.raises(EngineAway, match="no answer"):
        await member.commit({A: 1})


async def test_a_commit_of_nothing_asks_nobody(member: KafkaMember, membership: Membership) -> None:
    """Nothing is ours, so there is nothing to store."""
    await member.commit({A: 1})

    assert membership.commits == []


async def test_a_poll_ends_with_the_membership(
    member: KafkaMember, membership: Membership, handover: Handover
) -> None:
    """And brings nothing, also where something was waiting."""
    handover.put({A: 1}, {})
    await offsets(member)
    waiting = asyncio.create_task(member.poll(timeout=LONG, max_records=10))
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop: the poll is under way

    await member.close()
    handover.put({A: 1}, {A: records(A, 0)})

    assert list(await waiting) == []
    assert await offsets(member) == []
    assert membership.has_left.done()


@pytest.mark.parametrize(
    ("waiting", "full"),
    [
        pytest.param(records(A, *range(999)), False, id="few"),
        pytest.param(records(A, *range(1000)), True, id="many"),
        pytest.param(records(A, 0, size=8 * 1024 * 1024 - 1), False, id="small"),
        pytest.param(records(A, 0, size=8 * 1024 * 1024), True, id="large"),
    ],
)
async def test_a_partition_is_full_by_number_or_by_size(
    handover: Handover, waiting: Sequence[Record], *, full: bool
) -> None:
    """Then no more of it is fetched, until most of it is taken."""
    share: Share = {A: 1, B: 2}
    handover.put(share, {A: waiting, B: records(B, 0)})

    assert (handover.fill()[A] >= 1) is full
    assert handover.fill()[B] < 1


async def test_what_is_taken_makes_room(handover: Handover) -> None:
    """Of records of any size."""
    handover.put({A: 1}, {A: [*records(A, 0, size=8 * 1024 * 1024), *records(A, 1)]})

    handover.take({A: 1}, (), 1)

    assert handover.fill()[A] < 0.01
