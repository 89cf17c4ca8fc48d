"""Questions and orders to Kafka that belong to no producer and no member of a group."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kafka import KafkaAdminClient
from kafka import TopicPartition as Place
from kafka.errors import KafkaError, RetriableError

from shared.adapters.kafka.connection import ask, why
from shared.adapters.kafka.options import KafkaOptions
from shared.domain.errors import EngineAway

_Answer = TypeVar("_Answer")
_AGAIN_SECONDS = 0.1
_A_MOMENT = threading.Event()
"""Never set: to wait for it is to rest, in a thread that has nothing else to do."""


class Administration:
    """The one administrative client of a process, made when it is first needed."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect nothing yet."""
        self._options = options
        self._client: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    async def run(self, doing: str, work: Callable[[KafkaAdminClient], _Answer]) -> _Answer:
        """Return what some work with the client returns; `doing` names it, for the error.

        The work is done again where it met something that passes, as a broker that is not yet ready
        or a partition that moves; so it must be such that it may be.

        Raises:
            TemporaryError: Kafka gave no answer.
            PermanentError: Kafka refused.
        """
        return await asyncio.to_thread(self._run, doing, work)

    async def close(self) -> None:
        """Let the client go."""
        await asyncio.to_thread(self._close)

    def _run(self, doing: str, work: Callable[[KafkaAdminClient], _Answer]) -> _Answer:
        deadline = time.monotonic() + self._options.patience.total_seconds()
        with self._lock:
            while True:
                try:
                    return work(self._connected())
                except KafkaError as error:
                    # It remembers who answers for a group, also when that is another one by now.
                    self._drop()
                    if not isinstance(error, RetriableError) or time.monotonic() > deadline:
                        raise why(self._options, doing, error) from error
                    _A_MOMENT.wait(_AGAIN_SECONDS)

    def _connected(self) -> KafkaAdminClient:
        if self._client is None:
            # One that cannot connect raises while it is made, and leaves its thread behind.
            ask(self._options)
            self._client = KafkaAdminClient(
                **self._options.client(),
                bootstrap_timeout_ms=self._options.patience_ms,
                request_timeout_ms=self._options.patience_ms,
            )
        return self._client

    def _close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def partitions_of(client: KafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Return, of those topics that there are, how many partitions each has."""
    found = client.describe_topics(list(topics))
    return {one["name"]: len(one["partitions"]) for one in found if not one["error_code"]}


def places_of(client: KafkaAdminClient, topics: Iterable[str]) -> list[Place]:
    """Return every partition of some topics.

    Raises:
        TemporaryError: There is no such topic yet.
    """
    wanted = list(topics)
    counts = partitions_of(client, wanted)
    for topic in wanted:
        if topic not in counts:
            raise EngineAway(f"Kafka has no topic {topic}: make it by `integr8s topics apply`")
    return [Place(topic, number) for topic in wanted for number in range(counts[topic])]


def offsets_of(client: KafkaAdminClient, places: Iterable[Place], which: int) -> dict[Place, int]:
    """Return an offset of each partition: an `OffsetSpec` says which one."""
    found = client.list_partition_offsets(dict.fromkeys(places, which))
    return {place: one.offset for place, one in found.items()}


def committed_of(
    client: KafkaAdminClient, group: str, places: Iterable[Place]
) -> Mapping[Place, int | None]:
    """Return what a group committed, None where it never did."""
    found = client.list_group_offsets({group: list(places)})[group]
    return {place: one.offset if one.offset >= 0 else None for place, one in found.items()}
