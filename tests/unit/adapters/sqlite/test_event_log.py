"""What the log on one database promises beyond its port."""

from collections.abc import AsyncIterator

import pytest

from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.events.topics import Topic
from shared.ports.event_log import NewRecord, TopicPartition
from tests.virtual_time import LoopClock

TOPIC = Topic.USER_EVENTS.value


@pytest.fixture
async def log() -> AsyncIterator[SqliteEventLog]:
    """Return a log in memory."""
    store = SqliteStore(None)
    yield SqliteEventLog(store, LoopClock())
    await store.close()


async def test_a_commit_that_comes_late_takes_nothing_back(log: SqliteEventLog) -> None:
    """A member that lost a partition and has it back may still have an old commit under way."""
    place = TopicPartition(TOPIC, 0)
    await log.append([NewRecord(TOPIC, b"key", (), b"value") for _ in range(5)])

    await log.commit("group", {place: 4})
    await log.commit("group", {place: 2})

    assert log.committed("group", place) == 4
