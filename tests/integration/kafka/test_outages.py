"""A broker that hangs, dies and comes back: nothing acknowledged is lost, nobody is restarted.

A ledger is kept of what was acknowledged, and everything in it must be found, per key in order.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import TemporaryError
from shared.ports.event_log import Consumer, Record
from tests.contract.kafka import make_topics
from tests.integration.kafka.broker import Broker
from tests.integration.kafka.records import FACTS, SOON, numbered, numbers_by_key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

KEYS = [f"k{number}" for number in range(12)]


class Load:
    """Writers, one per key, each going on only after an acknowledgement; and one member."""

    def __init__(self, log: KafkaEventLog) -> None:
        self._log = log
        self.acknowledged: dict[str, int] = defaultdict(int)
        self.found: list[Record] = []

    async def write(self, key: str) -> None:
        """Append numbers in order, each again until it is acknowledged."""
        while True:
            try:
                await self._log.append([numbered(key, self.acknowledged[key])])
            except TemporaryError as error:
                await SystemClock().sleep(error.retry_after)
            else:
                self.acknowledged[key] += 1

    async def read(self, member: Consumer) -> None:
        """Read and commit, whatever happens."""
        while True:
            try:
                records = await member.poll(timeout=SOON, max_records=500)
                self.found += records
                await member.commit({record.place: record.offset + 1 for record in records})
            except TemporaryError as error:
                await SystemClock().sleep(error.retry_after)

    async def progress(self, count: int) -> None:
        """Return once every key has so many more acknowledged records."""
        goal = {key: self.acknowledged[key] + count for key in KEYS}
        while any(self.acknowledged[key] < goal[key] for key in KEYS):
            await SystemClock().sleep(SOON)

    async def all_found(self) -> None:
        """Return once everything acknowledged was read."""
        while True:
            found = numbers_by_key(self.found)
            if all(len(found.get(key, ())) >= self.acknowledged[key] for key in KEYS):
                return
            await SystemClock().sleep(SOON)


@asynccontextmanager
async def load(log: KafkaEventLog) -> AsyncIterator[Load]:
    """Write and read for a while; in the end everything that was acknowledged must be found."""
    load = Load(log)
    member = await log.join("g", [FACTS])
    reader = asyncio.create_task(load.read(member))
    writers = [asyncio.create_task(load.write(key)) for key in KEYS]
    try:
        await load.progress(5)
        yield load
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        await load.all_found()
    finally:
        for task in (*writers, reader):
            task.cancel()
        await asyncio.wait([*writers, reader])


def assert_nothing_is_lost(load: Load) -> None:
    """Each key has all of its acknowledged numbers, in the order of their first appearance."""
    found = numbers_by_key(load.found)
    assert {key: found[key][: load.acknowledged[key]] for key in KEYS} == {
        key: list(range(load.acknowledged[key])) for key in KEYS
    }


@pytest.mark.parametrize("seconds", [3, 20], ids=["shorter-than-a-session", "longer"])
async def test_a_broker_that_hangs_loses_nothing(
    broker: Broker, log: KafkaEventLog, seconds: int
) -> None:
    """Requests wait or are repeated; who was taken for dead joins again by itself."""
    async with load(log) as working:
        broker.freeze()
        # In real time, because that is what sessions and requests are measured by.
        await SystemClock().sleep(timedelta(seconds=seconds))
        broker.thaw()
        await working.progress(5)

    assert_nothing_is_lost(working)


async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    broker: Broker, log: KafkaEventLog
) -> None:
    """Several times over, under load; what it acknowledged is in its files."""
    async with load(log) as working:
        for _ in range(3):
            broker.kill()
            await asyncio.to_thread(broker.start)
            await working.progress(5)

    assert_nothing_is_lost(working)


async def test_whoever_starts_without_a_broker_is_told_in_time(
    broker: Broker, options: KafkaOptions
) -> None:
    """Appending and joining fail after some seconds; the same log works once there is one."""
    await make_topics(options)
    broker.kill()
    log = KafkaEventLog(options)
    began = time.monotonic()

    with pytest.raises(TemporaryError, match="no answer from Kafka"):
        await log.ping()
    with pytest.raises(TemporaryError, match="no answer from Kafka"):
        await log.append([numbered("k", 0)])
    with pytest.raises(TemporaryError, match="no answer from Kafka"):
        await log.join("g", [FACTS])
    with pytest.raises(TemporaryError, match="no answer from Kafka"):
        await log.positions("g", [FACTS])
    took = time.monotonic() - began
    await asyncio.to_thread(broker.start)
    await log.ping()
    await log.append([numbered("k", 1)])
    member = await log.join("g", [FACTS])

    assert [record.value async for record in first_records(member)] == [b"1"]
    assert took < 4 * options.patience.total_seconds()
    await log.close()


async def first_records(member: Consumer) -> AsyncIterator[Record]:
    """Give the first records that there are."""
    found: list[Record] = []
    while not found:
        found += await member.poll(timeout=SOON, max_records=10)
    for record in found:
        yield record


async def test_a_commit_while_the_broker_hangs_is_no_silence(
    broker: Broker, log: KafkaEventLog
) -> None:
    """Whoever commits learns that it did not happen, and may do it again."""
    await log.append([numbered("k", 0)])
    member = await log.join("g", [FACTS])
    [record] = [record async for record in first_records(member)]

    broker.freeze()
    try:
        with pytest.raises(TemporaryError):
            await member.commit({record.place: 1})
    finally:
        broker.thaw()
    await again(member, record)

    assert (await log.positions("g", [FACTS]))[record.place].committed == 1


async def again(member: Consumer, record: Record) -> None:
    """Commit until it is done."""
    while True:
        try:
            await member.commit({record.place: record.offset + 1})
        except TemporaryError as error:
            await SystemClock().sleep(error.retry_after)
        else:
            return
