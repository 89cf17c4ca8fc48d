"""Records at the limits of what Kafka takes."""

import asyncio

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.domain.errors import PermanentError, TemporaryError
from shared.events.topics import TOPICS, Topic
from shared.ports.event_log import NewRecord, TopicPartition
from tests.integration.kafka.records import FACTS, numbered, numbered_round, poll_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.mark.parametrize("topic", [Topic.EXECUTION_EVENTS, Topic.EXECUTION_TASKS])
async def test_the_largest_record_comes_through(log: KafkaEventLog, topic: Topic) -> None:
    """A value of exactly the limit, with key and headers as an event has them, stays as it was."""
    value = b"x" * TOPICS[topic].max_message_bytes
    headers = tuple((f"ce_{number}", b"h" * 200) for number in range(15))
    member = await log.join("g", [topic])

    await log.append([NewRecord(topic, b"key", headers, value)])
    [record] = await poll_until(lambda found: len(found) == 1, member)
    [read] = await log.read(record.place, offset=record.offset, limit=1)

    assert record == read
    assert (record.value, record.headers) == (value, headers)


async def test_records_after_a_large_one_come_through(log: KafkaEventLog) -> None:
    """A record that fills a whole answer of Kafka does not keep what lies behind it."""
    limit = TOPICS[FACTS].max_message_bytes
    large = NewRecord(FACTS, b"k", (), b"x" * limit)
    await log.append([numbered("k", 0), large, large, numbered("k", 1)])

    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 4, member)

    assert [len(record.value or b"") for record in found] == [1, limit, limit, 1]


async def test_headers_that_make_a_record_too_large_are_refused_for_good(
    log: KafkaEventLog,
) -> None:
    """The value alone would be small enough, and trying again would help nobody."""
    headers = (("h", b"x" * 2 * 1024 * 1024),)
    with pytest.raises(PermanentError):
        await log.append([NewRecord(Topic.EXECUTION_TASKS, b"k", headers, b"")])


async def test_a_refused_record_is_nobody_elses_fault(log: KafkaEventLog) -> None:
    """What is on its way at the same time is appended, whatever the driver makes of it."""
    headers = (("h", b"x" * 2 * 1024 * 1024),)
    refused = NewRecord(Topic.EXECUTION_TASKS, b"k", headers, b"")

    outcomes = await asyncio.gather(
        *(log.append([numbered("k", number)]) for number in range(10)),
        log.append([refused]),
        *(log.append(numbered_round(number)) for number in range(10)),
        return_exceptions=True,
    )
    async with asyncio.timeout(2):
        await log.append(numbered_round(10))

    assert [type(outcome) for outcome in outcomes if outcome is not None] == [PermanentError]
    assert await end(log) >= 10 + 11 * 24


async def end(log: KafkaEventLog) -> int:
    """Return how many records were ever appended."""
    return sum(position.end for position in (await log.positions("g", [FACTS])).values())


async def test_keys_lie_where_other_clients_look_for_them(
    log: KafkaEventLog, options: KafkaOptions
) -> None:
    """The partition of a key is Kafka's own choice, so everybody's records of it keep order."""

    def say_it_elsewhere() -> None:
        producer = KafkaProducer(**options.client())
        for number in range(24):
            producer.send(options.name(FACTS), b"1", key=f"k{number}".encode())
        producer.close()

    await log.append(numbered_round(0))
    await asyncio.to_thread(say_it_elsewhere)
    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 48, member)

    places = {
        number: {r.key: r.place for r in found if r.value == b"%d" % number} for number in (0, 1)
    }
    assert places[0] == places[1]


async def test_a_header_without_a_value_is_read_as_empty(
    log: KafkaEventLog, options: KafkaOptions
) -> None:
    """Other clients may write one; ours are bytes."""
    place = TopicPartition(FACTS, 0)

    def say_it_elsewhere() -> None:
        producer = KafkaProducer(**options.client())
        producer.send(options.name(FACTS), b"", partition=place.partition, headers=[("a", b"")])
        producer.close()

    await asyncio.to_thread(say_it_elsewhere)
    [record] = await log.read(place, offset=0, limit=5)

    assert (record.key, record.headers) == (None, (("a", b""),))


async def test_a_topic_that_was_not_made_is_named(
    log: KafkaEventLog, options: KafkaOptions
) -> None:
    """Kafka is there and the topic is not: that is for an operator, and the rest goes on."""
    missing = Topic.DEAD_LETTERS

    def remove() -> None:
        client = KafkaAdminClient(**options.client())
        client.delete_topics([options.name(missing)])
        while options.name(missing) in client.list_topics():
            pass
        client.close()

    await asyncio.to_thread(remove)
    fresh = KafkaEventLog(options)

    with pytest.raises(TemporaryError, match="topics apply"):
        await fresh.append([NewRecord(missing, b"k", (), b"")])
    with pytest.raises(TemporaryError, match="topics apply"):
        await fresh.join("g", [FACTS, missing])
    with pytest.raises(TemporaryError, match="topics apply"):
        await fresh.positions("g", [missing])
    await fresh.append(numbered_round(0))

    assert await end(log) == 24
    await fresh.close()
