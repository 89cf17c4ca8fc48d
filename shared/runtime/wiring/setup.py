"""What must be in Kafka and MongoDB before a function runs there."""

from collections.abc import Mapping, Sequence
from typing import Literal

from shared.adapters.kafka.topics import apply_topics as apply_in_kafka
from shared.adapters.mongo.indexes import apply_indexes as apply_in_mongo
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
    groups = {
        slug: [topic.value for topic in load(slug).spec.topics]
        for slug in SLUGS
        if load(slug).spec.topics
    }
    return await apply_in_kafka(
        kafka_options(settings),
        profile=settings.topics_profile,
        replication=settings.topics_replication,
        groups=groups,
    )


async def apply_indexes(settings: Settings) -> Sequence[Finding]:
    """Make the indexes that are missing.

    Raises:
        TemporaryError: The database gave no answer.
        StartupError: A setting is missing or wrong, or the database refuses us.
    """
    found = await apply_in_mongo(mongo_options(settings), COLLECTIONS.values())
    states: Mapping[str, Literal["made", "same"]] = {"created": "made", "same": "same"}
    return [
        Finding(
            f"index {one.collection}.{one.index}",
            states.get(one.state.value, "differs"),
            one.state.value,
            one.remedy,
        )
        for one in found
    ]
