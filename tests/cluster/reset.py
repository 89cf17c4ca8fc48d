"""Empties the engines of the tests, so that every run begins with nothing."""

from contextlib import suppress
from time import monotonic

from kafka.admin import KafkaAdminClient
from kafka.errors import (
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    UnknownTopicOrPartitionError,
)
from pymongo import MongoClient

from shared.events.topics import Topic
from shared.runtime.functions import SLUGS
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import kafka_options
from tests.ledger import pause

_GONE_SECONDS = 30


async def reset(settings: Settings) -> None:
    """Remove every topic, group and document of ours.

    Raises:
        AssertionError: A topic does not go away.
    """
    assert settings.mongo_url is not None
    with MongoClient[dict[str, object]](settings.mongo_url.get_secret_value()) as mongo:
        mongo.drop_database(settings.mongo_database)
    admin = KafkaAdminClient(**kafka_options(settings).client())
    try:
        for slug in SLUGS:
            await _delete_group(admin, slug)
        ours = {topic.value for topic in Topic}
        await _delete_topics(admin, ours)
    finally:
        admin.close()


async def _delete_group(admin: KafkaAdminClient, group: str) -> None:
    deadline = monotonic() + _GONE_SECONDS
    while True:
        try:
            admin.delete_groups([group])
        except GroupIdNotFoundError:
            return
        except CoordinatorNotAvailableError:
            # A broker that never had a group makes the topic of all groups only now.
            if monotonic() > deadline:
                raise
            await pause(0.3)
        else:
            return


async def _delete_topics(admin: KafkaAdminClient, ours: set[str]) -> None:
    deadline = monotonic() + _GONE_SECONDS
    while here := ours & set(admin.list_topics()):
        assert monotonic() < deadline, f"topics that do not go: {sorted(here)}"
        with suppress(UnknownTopicOrPartitionError):
            admin.delete_topics(sorted(here))
        await pause(0.3)
