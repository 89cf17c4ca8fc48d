"""One broker for all of these tests, and fresh names on it for each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from tests.contract.kafka import fresh_options, make_topics
from tests.integration.kafka.broker import Broker, running


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Return a broker that may be ill-treated, as long as it answers again in the end."""
    lacks = Broker().lacks()
    if lacks:
        pytest.fail("these tests start a Kafka of their own; missing: " + "; ".join(lacks))
    with running(tmp_path_factory.mktemp("engines")) as broker:
        yield broker


@pytest.fixture
def options(broker: Broker) -> KafkaOptions:
    """Return names that nobody has used."""
    return fresh_options(broker.servers)


@pytest.fixture
async def log(options: KafkaOptions) -> AsyncIterator[KafkaEventLog]:
    """Return an empty log with all topics."""
    await make_topics(options)
    log = KafkaEventLog(options)
    yield log
    await log.close()
