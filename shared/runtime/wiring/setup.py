"""What must be in Kafka and MongoDB before a function runs there."""

from collections.abc import Mapping, Sequence

from shared.adapters.kafka import topics as kafka_topics
from shared.adapters.mongo import indexes as mongo_indexes
from shared.ports.collections import COLLECTIONS
from shared.ports.setup import Finding
from shared.runtime.functions import SLUGS, load
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import kafka_options, mongo_options


async def apply_topics(settings: Settings) -> Sequence[Finding]:
    """Make topics, bring their settings in line, let every group begin at the oldest record.

    Raises:
        TemporaryError: No broker answered.
        PermanentError: One refused.
        StartupError: A setting is missing or wrong.
    """
    return await kafka_topics.apply_topics(
        kafka_options(settings),
        profile=settings.topics_profile,
        replication=settings.topics_replication,
        groups=groups(),
    )


async def topics_drift(settings: Settings) -> Sequence[Finding]:
    """Say what `apply_topics` would find, and change nothing.

    Raises:
        TemporaryError: No broker answered.
        PermanentError: One refused.
        StartupError: A setting is missing or wrong.
    """
    return await kafka_topics.drift(
        kafka_options(settings),
        profile=settings.topics_profile,
        replication=settings.topics_replication,
        groups=groups(),
    )


async def apply_indexes(settings: Settings) -> Sequence[Finding]:
    """Make the indexes that are missing.

    Raises:
        TemporaryError: The database gave no answer.
        StartupError: A setting is missing or wrong, or the database refuses us.
    """
    return await mongo_indexes.apply_indexes(mongo_options(settings), COLLECTIONS.values())


async def indexes_drift(settings: Settings) -> Sequence[Finding]:
    """Say what `apply_indexes` would find, and change nothing.

    Raises:
        TemporaryError: The database gave no answer.
        StartupError: A setting is missing or wrong, or the database refuses us.
    """
    return await mongo_indexes.drift(mongo_options(settings), COLLECTIONS.values())


def groups() -> Mapping[str, Sequence[str]]:
    """Return the topics of every consumer group."""
    topics = {slug: [topic.value for topic in load(slug).spec.topics] for slug in SLUGS}
    return {slug: names for slug, names in topics.items() if names}
