"""Kafka for suites: each factory has topics and groups of its own, which go when it is closed."""

import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta

import pytest
from kafka import KafkaAdminClient

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.topics import apply_topics
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.domain.errors import TemporaryError


def servers() -> tuple[str, ...]:
    """Return the brokers; a test that needs them fails where none is named."""
    named = os.environ.get("INTEGR8S_KAFKA_SERVERS", "")  # noqa: TID251 - where the engine is
    if not named:
        pytest.fail("INTEGR8S_KAFKA_SERVERS names no Kafka: ./taskw engines start kafka")
    return tuple(named.split(","))


def fresh_options(known: Sequence[str], *, prefix: str = "") -> KafkaOptions:
    """Return names that nobody has used, unless some are given, and members that are quick."""
    return KafkaOptions(
        servers=tuple(known),
        prefix=prefix or f"test-{SystemIds().new()}.",
        session=timedelta(seconds=6),
        heartbeat=timedelta(milliseconds=300),
    )


async def make_topics(options: KafkaOptions) -> None:
    """Make the topics of the catalogue, as soon as the broker is ready for that."""
    while True:
        try:
            await apply_topics(options, profile="dev", replication=1, groups={})
        except TemporaryError as error:
            await SystemClock().sleep(error.retry_after)
        else:
            return


async def remove_topics(options: KafkaOptions) -> None:
    """Remove everything that was made under the options' prefix."""

    def remove() -> None:
        client = KafkaAdminClient(**options.client())
        try:
            ours = [name for name in client.list_topics() if name.startswith(options.prefix)]
            if ours:
                client.delete_topics(ours)
        finally:
            client.close()

    await asyncio.to_thread(remove)


class KafkaLogFactory:
    """One prefix. Who is killed here leaves its groups at once; silence is tested elsewhere."""

    quiet = timedelta(seconds=1)

    def __init__(self, known: Sequence[str]) -> None:
        self._options = fresh_options(known)
        self._is_made = False
        self._logs: list[KafkaEventLog] = []

    async def __call__(self) -> KafkaEventLog:
        """Open the log, as another process would."""
        if not self._is_made:
            await make_topics(self._options)
            self._is_made = True
        self._logs.append(KafkaEventLog(self._options))
        return self._logs[-1]

    async def kill(self) -> None:
        """End every log, without a commit."""
        logs, self._logs = self._logs, []
        await asyncio.gather(*(log.close() for log in logs))

    async def close(self) -> None:
        """End every log, and remove the topics."""
        await self.kill()
        await remove_topics(self._options)
