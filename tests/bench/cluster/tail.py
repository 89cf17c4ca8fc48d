"""Reads the end of Kafka's topics as nobody's consumer: what was said about what, and when."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from shared.adapters.kafka.options import KafkaOptions
from shared.events.codec.kafka import header
from shared.events.topics import Topic

FACTS = (
    Topic.EXECUTION_EVENTS,
    Topic.EXECUTION_TASKS,
    Topic.SAGA_COMMANDS,
    Topic.POD_EVENTS,
    Topic.EXECUTION_RESULTS,
)
RESULT = "result_stored"
_POLL_MS = 200
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One event; all times are the wall clock's, which is one on one machine."""

    type: str
    subject: str
    said_at: float
    """When its function decided it: the time that it carries."""
    sent_at: float
    """When its producer took it, right before Kafka did."""
    seen_at: float
    """When it was read here, so surely in the topic."""
    status: str = ""
    """Of a stored result: how the execution ended."""


class Tail:
    """What arrives in some topics from now on; `open` it."""

    def __init__(self, servers: str, topics: Sequence[Topic]) -> None:
        """Prepare; nothing is read yet."""
        self._servers, self._topics = servers, [topic.value for topic in topics]
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)
        self._history: dict[str, list[Seen]] = defaultdict(list)
        self._awaited: dict[tuple[str, str], asyncio.Future[Seen]] = {}
        self._failure: Exception | None = None

    @classmethod
    async def open(cls, servers: str, topics: Sequence[Topic] = FACTS) -> Self:
        """Return it once nothing that is said from now on can be missed.

        Raises:
            TimeoutError: Kafka does not answer.
        """
        tail = cls(servers, topics)
        tail._thread.start()
        async with asyncio.timeout(_START_SECONDS):
            await tail._ready
        return tail

    def of(self, subject: str) -> Sequence[Seen]:
        """Return what was said about something, in the order in which it was read."""
        return tuple(self._history.get(subject, ()))

    async def first(self, event_type: str, subject: str, seconds: float = 60) -> Seen:
        """Return the first event of a type about something, as soon as it was read.

        Raises:
            TimeoutError: It was not said.
        """
        for seen in self._history.get(subject, ()):
            if seen.type == event_type:
                return seen
        place = event_type, subject
        awaited = self._awaited.setdefault(place, self._loop.create_future())
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(awaited)
        except TimeoutError as error:
            error.add_note(f"no {event_type} of {subject}; {self._failure or 'the tail is fine'}")
            raise
        finally:
            if awaited.done():
                self._awaited.pop(place, None)

    async def close(self) -> None:
        """Read no more."""
        self._leaving.set()
        await asyncio.to_thread(self._thread.join)

    # --- the thread ------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            consumer = KafkaConsumer(
                **KafkaOptions(tuple(self._servers.split(","))).client(),
                enable_auto_commit=False,
                metrics_enabled=False,
                max_poll_records=2000,
            )
        except KafkaError as error:
            self._failure = error
            return
        try:
            self._to_the_end(consumer)
            self._loop.call_soon_threadsafe(self._ready.set_result, None)
            while not self._leaving.is_set():
                found: Mapping[Any, Iterable[Any]] = consumer.poll(_POLL_MS)
                if found:
                    self._take(found, time())
        except (KafkaError, RuntimeError) as error:
            self._failure = error  # a loop that is gone, or a broker
        finally:
            consumer.close(autocommit=False)

    def _to_the_end(self, consumer: KafkaConsumer) -> None:
        places = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(places)
        consumer.seek_to_end()
        for place in places:
            consumer.position(place)

    def _take(self, found: Mapping[Any, Iterable[Any]], at: float) -> None:
        seen = [_seen(record, at) for records in found.values() for record in records]
        self._loop.call_soon_threadsafe(self._note, seen)

    # --- the event loop --------------------------------------------------------------------------

    def _note(self, events: Sequence[Seen]) -> None:
        for seen in events:
            self._history[seen.subject].append(seen)
            awaited = self._awaited.get((seen.type, seen.subject))
            if awaited is not None and not awaited.done():
                awaited.set_result(seen)


def _seen(record: Any, at: float) -> Seen:
    event_type = _text(record.headers, "ce_type")
    said = _text(record.headers, "ce_time")
    return Seen(
        type=event_type,
        subject=_text(record.headers, "ce_subject"),
        said_at=datetime.fromisoformat(said).timestamp() if said else 0.0,
        sent_at=record.timestamp / 1000,
        seen_at=at,
        status=json.loads(record.value)["status"] if event_type == RESULT else "",
    )


def _text(headers: Any, name: str) -> str:
    return (header(headers, name) or b"").decode()
