"""What members of a group promise each other, where it takes a real Kafka to see it."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from shared.adapters.kafka import polling
from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.ports.event_log import Position, Record, TopicPartition
from tests.integration.kafka.records import (
    FACTS,
    PLACES,
    SOON,
    lag,
    numbered,
    numbered_round,
    numbers_by_key,
    poll_until,
    shared_out,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_a_gained_partition_has_a_committed_offset(log: KafkaEventLog) -> None:
    """However an autoscaler counts where there is none, from the join on its numbers are real."""
    await log.append(numbered_round(0))
    before = await log.positions("g", [FACTS])

    await log.join("g", [FACTS])
    after = await committed_everywhere(log)

    assert {position.committed for position in before.values()} == {None}
    assert {position.committed for position in after.values()} == {0}
    assert await lag(log, "g") == 24


async def committed_everywhere(log: KafkaEventLog) -> Mapping[TopicPartition, Position]:
    """Ask until the group has a commit in every partition."""
    positions = await log.positions("g", [FACTS])
    while None in {position.committed for position in positions.values()}:
        positions = await log.positions("g", [FACTS])
    return positions


async def test_no_join_is_left_half_done(
    log: KafkaEventLog, options: KafkaOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics that grow make a member join again, wherever the end of a poll cuts that off.

    Here polls are shorter than any step of it, and the driver looks often how topics are.
    """
    look_often = options.client() | {"metadata_max_age_ms": 100}
    monkeypatch.setattr(KafkaOptions, "client", lambda _: look_often)
    monkeypatch.setattr(polling, "_JOINING_MS", 1)
    monkeypatch.setattr(polling, "_POLL_MS", 1)
    admin = KafkaAdminClient(**options.client())
    member = await log.join("g", [FACTS])
    await shared_out(member)

    try:
        for count in range(len(PLACES) + 1, len(PLACES) + 11):
            admin.create_partitions({options.name(FACTS): count})
            async with asyncio.timeout(10):
                while len(member.assignment) < count:
                    await member.poll(timeout=SOON, max_records=1)
    finally:
        admin.close()


async def test_a_commit_is_not_set_back_by_a_gain(log: KafkaEventLog) -> None:
    """Whoever gains a partition begins at what is committed, and leaves that as it is."""
    await log.append(numbered_round(0))
    first = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 24, first)
    await first.commit({record.place: record.offset + 1 for record in found})
    await first.close()

    second = await log.join("g", [FACTS])
    await shared_out(second)

    assert await lag(log, "g") == 0


async def test_who_closes_hands_over_within_a_heartbeat(log: KafkaEventLog) -> None:
    """The other owns everything long before a session would have ended, and misses nothing."""
    first, second = await log.join("g", [FACTS]), await log.join("g", [FACTS])
    await shared_out(first, second)
    await log.append(numbered_round(0))
    share = first.assignment

    async with asyncio.timeout(3):
        await first.close()
        found = await shared_out(second)
        found += await poll_until(lambda more: len(found) + len(more) >= 24, second)

    assert 0 < len(share) < len(PLACES)
    assert numbers_by_key(found) == {f"k{key}": [0] for key in range(24)}


@asynccontextmanager
async def other_process(options: KafkaOptions) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a member that has read everything and committed half of it, until it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.kafka.member", *options.servers, options.prefix, "96"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_member_loses_nothing(options: KafkaOptions, log: KafkaEventLog) -> None:
    """Its partitions are taken over when its session ends, from exactly what it had committed."""
    for number in range(4):
        await log.append(numbered_round(number))
    async with other_process(options) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"committed\n"
        left_over = await lag(log, "g")
        process.send_signal(signal.SIGKILL)
        await process.wait()

        member = await log.join("g", [FACTS])
        found = await shared_out(member)
        found += await poll_until(lambda more: len(found) + len(more) >= left_over, member)

    assert 0 < left_over < 96
    assert len(found) == left_over
    assert {numbers[-1] for numbers in numbers_by_key(found).values()} == {3}


async def expel(options: KafkaOptions) -> None:
    """Remove every member from the group, as Kafka does with those that it did not hear."""

    def remove() -> None:
        client = KafkaAdminClient(**options.client())
        group = options.name("g")
        members = client.describe_groups([group])[group]["members"]
        client.remove_group_members(group, [MemberToRemove(one["member_id"]) for one in members])
        client.close()

    await asyncio.to_thread(remove)


async def test_a_partition_that_was_lost_and_is_back_shows(
    options: KafkaOptions, log: KafkaEventLog
) -> None:
    """One poll goes without it, so that offsets are counted anew; then it comes from its commit."""
    await log.append([numbered("k", number) for number in range(10)])
    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 10, member)
    [place] = {record.place for record in found}
    await member.commit({place: found[4].offset})

    await expel(options)
    during = await poll_until(lambda _: not member.assignment, member)
    again = await shared_out(member)
    again += await poll_until(lambda more: len(again) + len(more) >= 6, member)

    assert during == []
    assert [record.offset for record in again] == [record.offset for record in found[4:]]


async def test_a_commit_from_before_a_loss_is_left_out(
    options: KafkaOptions, log: KafkaEventLog
) -> None:
    """Even though the partition is back: another may have gone further in the meantime."""
    await log.append([numbered("k", number) for number in range(10)])
    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 10, member)
    [place] = {record.place for record in found}
    await member.commit({place: 8})
    await expel(options)
    await rejoined(options, log)

    await member.commit({place: 3})

    assert (await log.positions("g", [FACTS]))[place].committed == 8


async def rejoined(options: KafkaOptions, log: KafkaEventLog) -> None:
    """Return once the member is back in its group, without polling it."""

    def members() -> int:
        client = KafkaAdminClient(**options.client())
        group = client.describe_groups([options.name("g")])[options.name("g")]
        client.close()
        return len(group["members"]) if group["group_state"] == "Stable" else 0

    while await asyncio.to_thread(members) != 1:
        await log.ping()


@pytest.mark.parametrize(
    ("count", "size", "most"),
    [pytest.param(40, 1024 * 1024, 16, id="large"), pytest.param(8_000, 10, 3_000, id="many")],
)
async def test_what_nobody_takes_is_fetched_in_bounds(
    log: KafkaEventLog, count: int, size: int, most: int
) -> None:
    """A slow handler costs a little memory and not the whole backlog, and misses nothing later.

    Other partitions go on in the meantime, which is when the driver would forget that it has
    records of the one that was held back.
    """
    await log.append([replace(numbered("slow", 0), value=b"x" * size)] * count)
    member = await log.join("g", [FACTS])
    first = await poll_until(lambda found: len(found) > 0, member)
    place = first[0].place

    member.pause([place])
    for number in range(20):
        await log.append(numbered_round(number, keys=4))
        await poll_until(lambda found: len(found) > 0, member)
    held = len(member._handover._waiting[place].records)
    member.resume([place])
    rest = await poll_until(lambda more: len(of(place, more)) + len(first) >= count, member)

    assert held <= most
    assert [record.offset for record in [*first, *of(place, rest)]][:count] == list(range(count))


def of(place: TopicPartition, found: Sequence[Record]) -> list[Record]:
    """Return the records of one partition."""
    return [record for record in found if record.place == place]


@pytest.mark.usefixtures("log")
async def test_closing_leaves_no_thread(options: KafkaOptions) -> None:
    """Functions come and go in one process; what they leave behind would add up."""
    before = set(threading.enumerate())
    another = KafkaEventLog(options)
    member = await another.join("g", [FACTS])
    await another.append(numbered_round(0))
    await shared_out(member)
    await another.positions("g", [FACTS])
    during = set(threading.enumerate()) - before

    await another.close()

    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert len(during) > 3
    assert not [name for name in left if "kafka" in name or "integr8s" in name]
