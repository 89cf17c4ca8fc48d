"""What `topics apply` makes, mends, and leaves to an operator; and where groups begin."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.topics import Profile, apply_topics, drift
from shared.domain.errors import PermanentError
from shared.events.topics import TOPICS, Topic
from shared.ports.event_log import TopicPartition
from shared.ports.setup import Finding
from tests.integration.kafka.records import FACTS, lag, numbered_round, shared_out

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

GROUPS = {"g": [FACTS.value, Topic.TIMERS.value]}


async def applied(
    options: KafkaOptions, *, profile: Profile = "dev", groups: Mapping[str, Sequence[str]] = GROUPS
) -> Sequence[Finding]:
    """Apply the catalogue with one copy, which is all that one broker can hold."""
    return await apply_topics(options, profile=profile, replication=1, groups=groups)


def by_state(findings: Sequence[Finding], options: KafkaOptions) -> dict[str, set[str]]:
    """Return the subjects per state, without the prefix."""
    states: dict[str, set[str]] = {}
    for one in findings:
        states.setdefault(one.state, set()).add(one.subject.replace(options.prefix, ""))
    return states


EVERY_TOPIC = {f"topic {topic}" for topic in TOPICS}


async def settings_of(options: KafkaOptions, topic: Topic) -> dict[str, str]:
    """Return the settings of a topic in Kafka."""

    def ask() -> dict[str, str]:
        client = KafkaAdminClient(**options.client())
        name = options.name(topic)
        found = client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all"
        )["topic"][name]
        client.close()
        return {key: one["value"] for key, one in found.items()}

    return await asyncio.to_thread(ask)


async def set_retention(options: KafkaOptions, topic: Topic, milliseconds: int) -> None:
    """Change a setting behind our back."""

    def change() -> None:
        client = KafkaAdminClient(**options.client())
        settings = {"retention.ms": str(milliseconds)}
        resource = ConfigResource(ConfigResourceType.TOPIC, options.name(topic), settings)
        client.alter_configs([resource], incremental=True)
        client.close()

    await asyncio.to_thread(change)


async def test_everything_is_made_once(options: KafkaOptions) -> None:
    """The first time makes all topics and groups, the second finds them as they should be."""
    first = await applied(options)
    second = await applied(options)

    assert by_state(first, options) == {"made": {*EVERY_TOPIC, "group g"}}
    assert by_state(second, options) == {"same": {*EVERY_TOPIC, "group g"}}


async def test_topics_are_made_as_the_catalogue_says(options: KafkaOptions) -> None:
    """Records are kept for as long as they should be, and not a whole segment longer."""
    await applied(options)

    settings = await settings_of(options, Topic.TIMERS)

    assert settings["retention.ms"] == str(24 * 3600 * 1000)
    assert int(settings["segment.ms"]) <= int(settings["retention.ms"]) / 4
    assert int(settings["max.message.bytes"]) > TOPICS[Topic.TIMERS].max_message_bytes
    assert settings["cleanup.policy"] == "delete"


async def test_the_profile_decides_on_partitions(options: KafkaOptions) -> None:
    """A large installation is made with more, since there is no way to add them later."""
    await applied(options, profile="large", groups={})

    positions = await KafkaEventLog(options).positions("g", [Topic.TIMERS])

    assert len(positions) == TOPICS[Topic.TIMERS].partitions_large


async def test_drift_changes_nothing(options: KafkaOptions) -> None:
    """It names what is missing and what differs, and how to mend it."""
    missing = await drift(options, profile="dev", replication=1, groups=GROUPS)
    await applied(options)
    await set_retention(options, Topic.TIMERS, 1000)

    found = await drift(options, profile="dev", replication=1, groups=GROUPS)

    assert by_state(missing, options) == {"differs": {*EVERY_TOPIC, "group g"}}
    assert by_state(found, options)["differs"] == {"topic timers"}
    assert (await settings_of(options, Topic.TIMERS))["retention.ms"] == "1000"
    assert "topics apply" in next(one.remedy for one in found if one.state == "differs")


async def test_settings_are_brought_in_line(options: KafkaOptions) -> None:
    """What somebody changed is changed back, and said with both values."""
    await applied(options)
    await set_retention(options, Topic.TIMERS, 1000)

    findings = await applied(options)

    [changed] = [one for one in findings if one.state == "changed"]
    assert changed.subject.endswith("timers")
    assert changed.seen == "retention.ms 1000 -> 86400000"
    assert (await settings_of(options, Topic.TIMERS))["retention.ms"] == "86400000"


async def test_partitions_are_never_added(options: KafkaOptions) -> None:
    """Keys would move and their order would be lost: it is said, with what an operator can do."""
    await applied(options)

    findings = await applied(options, profile="large")
    positions = await KafkaEventLog(options).positions("g", [Topic.TIMERS])

    [timers] = [one for one in findings if one.subject.endswith("timers")]
    assert (timers.state, timers.seen) == ("differs", "has 3 partitions, 12 wanted")
    assert "delete the topic" in timers.remedy
    assert len(positions) == 3


async def test_more_copies_than_brokers_are_refused(options: KafkaOptions) -> None:
    """With a sentence that says so, and no topic made."""
    with pytest.raises(PermanentError, match=r"replication factor of 3 .* only 1 broker"):
        await apply_topics(options, profile="dev", replication=3, groups={})


async def test_a_group_begins_before_it_has_a_member(options: KafkaOptions) -> None:
    """From then on its lag is real: an autoscaler wakes it for the first record and no sooner."""
    await applied(options)
    log = KafkaEventLog(options)
    idle = await log.positions("g", [FACTS])

    await log.append(numbered_round(0))

    assert {position.committed for position in idle.values()} == {0}
    assert await lag(log, "g") == 24
    await log.close()


async def test_a_group_that_is_late_begins_at_the_oldest_record(options: KafkaOptions) -> None:
    """A function that is deployed later finds everything that is still kept."""
    await applied(options)
    log = KafkaEventLog(options)
    await log.append(numbered_round(0))

    findings = await applied(options, groups={"late": [FACTS]})

    assert by_state(findings, options)["made"] == {"group late"}
    assert await lag(log, "late") == 24
    await log.close()


async def test_a_group_at_work_keeps_its_place(options: KafkaOptions) -> None:
    """What it has committed is never touched, whether it has members just now or not."""
    await applied(options)
    log = KafkaEventLog(options)
    await log.append(numbered_round(0))
    member = await log.join("g", [FACTS])
    await shared_out(member)
    await member.commit(dict.fromkeys(member.assignment, 1))

    findings = await applied(options)

    assert by_state(findings, options) == {"same": {*EVERY_TOPIC, "group g"}}
    positions = await log.positions("g", [FACTS])
    assert {position.committed for position in positions.values()} == {1}
    await log.close()


async def test_a_member_that_has_no_commit_yet_is_left_alone(options: KafkaOptions) -> None:
    """Setting up again while functions run breaks nothing and says why it did not."""
    await applied(options, groups={})
    log = KafkaEventLog(options)
    member = await log.join("g", [FACTS])
    await shared_out(member)

    findings = await applied(options, groups={"g": [FACTS, Topic.TIMERS]})

    [group] = [one for one in findings if one.subject.startswith("group")]
    assert group.state == "same"
    assert "at work" in group.seen
    await log.close()


def test_places_have_no_prefix() -> None:
    """Whatever the brokers call it, ours is the catalogue's name."""
    assert TopicPartition(FACTS, 0).topic == "execution_events"
