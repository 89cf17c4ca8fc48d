"""The event log on Kafka.

Keys go to partitions by Kafka's own hash (murmur2), as with every other client. There are no
transactions and no compaction, so offsets have no gaps: what is committed up to the end is no lag.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from kafka import KafkaAdminClient, KafkaConsumer, OffsetSpec
from kafka import TopicPartition as Place
from kafka.errors import KafkaError, KafkaTimeoutError

from shared.adapters.kafka.administration import (
    Administration,
    committed_of,
    offsets_of,
    places_of,
)
from shared.adapters.kafka.appending import Appender
from shared.adapters.kafka.connection import ask, why
from shared.adapters.kafka.consumer import KafkaMember
from shared.adapters.kafka.handover import Handover
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.polling import PollThread
from shared.adapters.kafka.records import record_of
from shared.adapters.kafka.threads import aside
from shared.domain.errors import EngineAway, PermanentError
from shared.events.topics import TOPICS
from shared.ports.event_log import NewRecord, Position, Record, TopicPartition

_TOPICS = {topic.value: spec for topic, spec in TOPICS.items()}
_READ_MS = 100


class KafkaEventLog:
    """Append records and read them in groups. One per process; nothing connects before it must."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect nothing yet.

        Raises:
            StartupError: The certificates that were named cannot be read.
        """
        options.client()
        self._options = options
        self._appender = Appender(options)
        self._administration = Administration(options)
        self._members: set[KafkaMember] = set()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in this order; returns once all are acknowledged.

        Raises:
            TemporaryError: No acknowledgement; some may have been appended.
            PermanentError: There is no such topic, or a record is too large for it.
        """
        for new in records:
            spec = _TOPICS.get(new.topic)
            if spec is None:
                raise PermanentError(f"there is no topic {new.topic}")
            if len(new.value or b"") > spec.max_message_bytes:
                raise PermanentError(
                    f"a record of {len(new.value or b'')} bytes is over the limit of"
                    f" {spec.max_message_bytes} of the topic {new.topic}"
                )
        await self._appender.append(records)

    async def join(self, group: str, topics: Sequence[str]) -> KafkaMember:
        """Join a group; the first poll brings the assignment.

        Where others take their time to share the partitions out, that is a later poll.

        Raises:
            TemporaryError: No broker answers, or a topic is missing.
            PermanentError: Kafka refuses this member.
        """
        # Who handles events will have some to say, and both take a while to get going.
        self._appender.warm()
        handover = Handover()
        thread = PollThread(self._options, group, topics, handover)
        member = KafkaMember(thread, handover, closed=self._members.discard)
        self._members.add(member)
        thread.start()
        try:
            async with asyncio.timeout(self._options.patience.total_seconds()):
                error = await asyncio.shield(thread.joined)
        except TimeoutError:
            if thread.is_reached:
                return member
            await member.close()
            await self.ping()
            raise EngineAway(f"Kafka did not let us into {group} in time") from None
        except asyncio.CancelledError:
            _ = member.leave()
            raise
        if error is not None:
            await member.close()
            raise error
        return member

    async def positions(
        self, group: str, topics: Sequence[str]
    ) -> Mapping[TopicPartition, Position]:
        """Return where the group stands in every partition of the topics; joins nothing.

        Raises:
            TemporaryError: No answer, or a topic is missing.
            PermanentError: Kafka refused.
        """
        names = {self._options.name(topic): topic for topic in topics}

        def look(client: KafkaAdminClient) -> Mapping[TopicPartition, Position]:
            places = places_of(client, names)
            # The commits first: a lag must never be negative because time went on meanwhile.
            committed = committed_of(client, self._options.name(group), places)
            starts = offsets_of(client, places, OffsetSpec.EARLIEST)
            ends = offsets_of(client, places, OffsetSpec.LATEST)
            return {
                TopicPartition(names[place.topic], place.partition): Position(
                    start=starts[place], end=ends[place], committed=committed.get(place)
                )
                for place in places
            }

        return await self._administration.run(f"the positions of {group}", look)

    async def read(self, place: TopicPartition, *, offset: int, limit: int) -> Sequence[Record]:
        """Return records of one partition from an offset on, outside of any group.

        Raises:
            TemporaryError: No answer.
            PermanentError: Kafka refused.
        """
        return await asyncio.to_thread(self._read, place, offset, limit)

    def _read(self, place: TopicPartition, offset: int, limit: int) -> Sequence[Record]:
        there = Place(self._options.name(place.topic), place.partition)
        patience_ms = self._options.patience_ms
        consumer = KafkaConsumer(
            **self._options.client(),
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            consumer.assign([there])
            [start] = consumer.beginning_offsets([there], patience_ms).values()
            [end] = consumer.end_offsets([there], patience_ms).values()
            first = max(offset, start)
            return self._read_until(consumer, there, first, min(end, first + limit))
        except KafkaError as error:
            raise why(self._options, f"reading {place.topic}", error) from error
        finally:
            consumer.close()

    def _read_until(
        self, consumer: KafkaConsumer, there: Place, first: int, end: int
    ) -> list[Record]:
        deadline = time.monotonic() + self._options.patience.total_seconds()
        topic = there.topic.removeprefix(self._options.prefix)
        records: list[Record] = []
        consumer.seek(there, first)
        while len(records) < end - first:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"{len(records)} of {end - first} records came in time")
            found = consumer.poll(_READ_MS, end - first - len(records))
            records += [record_of(one, topic) for one in found.get(there, ())]
        return records

    async def ping(self) -> None:
        """Return if Kafka lets us in and answers.

        Raises:
            TemporaryError: No broker answers.
            PermanentError: One does, and turns us away.
        """
        await aside(lambda: ask(self._options))

    async def close(self) -> None:
        """Leave every group, wait a little for what is being appended, and let go."""
        await asyncio.gather(*(member.close() for member in self._members))
        await self._appender.close()
        await self._administration.close()
