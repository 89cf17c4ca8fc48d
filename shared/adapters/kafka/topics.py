"""The topics in Kafka against those of the catalogue, and where groups begin in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from kafka import KafkaAdminClient, OffsetAndMetadata, OffsetSpec
from kafka import TopicPartition as Place
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    NoError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    for_code,
)

from shared.adapters.kafka.administration import (
    Administration,
    committed_of,
    offsets_of,
    partitions_of,
    places_of,
)
from shared.adapters.kafka.options import KafkaOptions, milliseconds
from shared.domain.errors import PermanentError
from shared.events.topics import TOPICS
from shared.ports.setup import Finding

Profile = Literal["dev", "large"]

_ENVELOPE_BYTES = 64 * 1024
"""What a record may have around its value: the key, the headers, the batch."""
_LONGEST_SEGMENT = timedelta(days=7)
_SEGMENTS = 4
"""Kafka drops whole segments: one as long as the retention would be kept for twice that."""
_SAFE_COPIES = 3
"""From which on records are taken while one copy is away, and are still in two places."""
_APPLY = "Run `integr8s topics apply`."
_MOVING_KEYS = (
    "More partitions would move keys, and order per key would be lost, so that is left to you: stop"
    " the functions once their lag is 0, delete the topic and run `integr8s topics apply`."
)
_OTHER_PROFILE = "Set INTEGR8S_TOPICS_PROFILE to what the topics were made with."


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic as it should be, or as it is."""

    name: str
    partitions: int
    copies: int
    settings: Mapping[str, str]

    def __str__(self) -> str:
        days = timedelta(milliseconds=int(self.settings["retention.ms"])) / timedelta(days=1)
        return f"partitions: {self.partitions}, copies: {self.copies}, kept for {days:g} days"


async def apply_topics(
    options: KafkaOptions,
    *,
    profile: Profile,
    replication: int,
    groups: Mapping[str, Sequence[str]],
) -> Sequence[Finding]:
    """Make what is missing, bring settings in line, let groups begin; may be repeated.

    Partitions are never added: keys would move, and order per key would be lost.

    Args:
        options: How Kafka is reached.
        profile: Decides how many partitions a topic is made with.
        replication: Copies of each topic that is made.
        groups: Group -> topics. Where a group never committed it is set to the oldest record before
            it has a member, so that an autoscaler sees what there is to do.

    Raises:
        TemporaryError: Kafka gave no answer.
        PermanentError: Kafka refused.
    """
    return await _run(options, _wanted(options, profile, replication), groups, changes=True)


async def drift(
    options: KafkaOptions,
    *,
    profile: Profile,
    replication: int,
    groups: Mapping[str, Sequence[str]],
) -> Sequence[Finding]:
    """Say what `apply_topics` would find, and change nothing.

    Raises:
        TemporaryError: Kafka gave no answer.
        PermanentError: Kafka refused.
    """
    return await _run(options, _wanted(options, profile, replication), groups, changes=False)


async def _run(
    options: KafkaOptions,
    wanted: Sequence[_Topic],
    groups: Mapping[str, Sequence[str]],
    *,
    changes: bool,
) -> Sequence[Finding]:
    def work(client: KafkaAdminClient) -> Sequence[Finding]:
        findings = _topics(client, wanted, changes=changes)
        for group, topics in groups.items():
            names = [options.name(topic) for topic in topics]
            findings.append(_group(client, options.name(group), names, changes=changes))
        return findings

    administration = Administration(options)
    try:
        return await administration.run("the topics", work)
    finally:
        await administration.close()


def _wanted(options: KafkaOptions, profile: Profile, replication: int) -> Sequence[_Topic]:
    return [
        _Topic(
            name=options.name(topic),
            partitions=spec.partitions if profile == "dev" else spec.partitions_large,
            copies=replication,
            settings={
                "cleanup.policy": "delete",
                "max.message.bytes": str(spec.max_message_bytes + _ENVELOPE_BYTES),
                "retention.ms": str(milliseconds(spec.retention)),
                "segment.ms": str(milliseconds(min(spec.retention / _SEGMENTS, _LONGEST_SEGMENT))),
            },
        )
        for topic, spec in TOPICS.items()
    ]


# --- topics ---------------------------------------------------------------------------------------


def _topics(client: KafkaAdminClient, wanted: Sequence[_Topic], *, changes: bool) -> list[Finding]:
    found = _look(client, wanted)
    missing = [topic for topic in wanted if topic.name not in found]
    if changes and missing:
        _make(client, missing)
    findings: list[Finding] = []
    for topic in wanted:
        if topic.name in found:
            findings += _compare(client, found[topic.name], topic, changes=changes)
        elif changes:
            findings.append(Finding(f"topic {topic.name}", "made", str(topic)))
        else:
            findings.append(Finding(f"topic {topic.name}", "differs", "is missing", _APPLY))
    return findings


def _look(client: KafkaAdminClient, wanted: Sequence[_Topic]) -> Mapping[str, _Topic]:
    """Return those of the topics that there are, with the settings that matter to us."""
    described = client.describe_topics([topic.name for topic in wanted])
    found = {one["name"]: one["partitions"] for one in described if not one["error_code"]}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.settings)
        for topic in wanted
        if topic.name in found
    ]
    if not resources:
        return {}
    settings = client.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: _Topic(
            name=name,
            partitions=len(partitions),
            copies=min(len(one["replica_nodes"]) for one in partitions),
            settings={key: one["value"] for key, one in settings[name].items()},
        )
        for name, partitions in found.items()
    }


def _make(client: KafkaAdminClient, missing: Sequence[_Topic]) -> None:
    answer = client.create_topics(
        {
            topic.name: {
                "num_partitions": topic.partitions,
                "replication_factor": topic.copies,
                "configs": {**topic.settings, **_only_when_made(topic)},
            }
            for topic in missing
        },
        raise_errors=False,
    )
    for one in answer["topics"]:
        # Two may set up at once: then it is as good that the other one made it.
        if for_code(one["error_code"]) not in (NoError, TopicAlreadyExistsError):
            raise PermanentError(f"Kafka did not make {one['name']}: {one['error_message']}")
    client.wait_for_topics([topic.name for topic in missing])


def _only_when_made(topic: _Topic) -> dict[str, str]:
    """Return what depends on the copies: later an operator may change both, and not at once."""
    return {"min.insync.replicas": "2" if topic.copies >= _SAFE_COPIES else "1"}


def _compare(
    client: KafkaAdminClient, found: _Topic, wanted: _Topic, *, changes: bool
) -> list[Finding]:
    subject = f"topic {wanted.name}"
    findings: list[Finding] = []
    if found.partitions != wanted.partitions:
        seen = f"has {found.partitions} partitions, {wanted.partitions} wanted"
        too_few = found.partitions < wanted.partitions
        remedy = _MOVING_KEYS if too_few else _OTHER_PROFILE
        findings.append(Finding(subject, "differs", seen, remedy))
    if found.copies < wanted.copies:
        seen = f"has {found.copies} copies, {wanted.copies} wanted"
        remedy = "Add copies by Kafka's own kafka-reassign-partitions."
        findings.append(Finding(subject, "differs", seen, remedy))
    altered = {
        key: value for key, value in wanted.settings.items() if found.settings.get(key) != value
    }
    if altered:
        seen = ", ".join(f"{key} {found.settings.get(key)} -> {altered[key]}" for key in altered)
        if changes:
            _alter(client, wanted.name, altered)
            findings.append(Finding(subject, "changed", seen))
        else:
            findings.append(Finding(subject, "differs", seen, _APPLY))
    return findings or [Finding(subject, "same", str(found))]


def _alter(client: KafkaAdminClient, name: str, altered: Mapping[str, str]) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, name, dict(altered))
    outcome = client.alter_configs([resource], incremental=True)["topic"][name]
    if outcome != "OK":
        raise PermanentError(f"Kafka did not change the settings of {name}: {outcome}")


# --- groups ---------------------------------------------------------------------------------------


def _group(
    client: KafkaAdminClient, group: str, topics: Sequence[str], *, changes: bool
) -> Finding:
    """Let a group begin at the oldest record where it never committed."""
    subject = f"group {group}"
    there = [topic for topic in topics if topic in partitions_of(client, topics)]
    places = places_of(client, there)
    committed = committed_of(client, group, places)
    fresh = [place for place in places if committed.get(place) is None]
    if not fresh and there == list(topics):
        return Finding(subject, "same", f"has its place in {len(places)} partitions")
    seen = f"has no place in {len(fresh)} of {len(places)} partitions"
    if not changes:
        return Finding(subject, "differs", seen, _APPLY)
    if _begin(client, group, offsets_of(client, fresh, OffsetSpec.EARLIEST)):
        return Finding(subject, "made", f"begins at the oldest record of {len(fresh)} partitions")
    return Finding(subject, "same", f"{seen}; its members, which are at work, see to that")


def _begin(client: KafkaAdminClient, group: str, offsets: Mapping[Place, int]) -> bool:
    """Commit for a group that has no member; say whether it has none."""
    outcomes = client.alter_group_offsets(
        group, {place: OffsetAndMetadata(at, "", -1) for place, at in offsets.items()}
    )
    refused = {outcome for outcome in outcomes.values() if outcome is not NoError}
    if not refused:
        return True
    if refused <= {UnknownMemberIdError, RebalanceInProgressError}:
        return False
    names = ", ".join(sorted(outcome.__name__ for outcome in refused))
    raise PermanentError(f"Kafka did not store where {group} begins: {names}")
