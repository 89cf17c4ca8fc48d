"""The topics: what each holds, how long, in how many partitions."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Topic(StrEnum):
    """Every topic. A stream of facts and a queue of work are never the same topic."""

    EXECUTION_EVENTS = "execution_events"
    EXECUTION_TASKS = "execution_tasks"
    SAGA_COMMANDS = "saga_commands"
    POD_EVENTS = "pod_events"
    EXECUTION_RESULTS = "execution_results"
    EXECUTION_SUBMISSIONS = "execution_submissions"
    USER_EVENTS = "user_events"
    REPLAY_COMMANDS = "replay_commands"
    TIMERS = "timers"
    DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is kept."""

    partitions: int
    partitions_large: int
    retention: timedelta
    max_message_bytes: int = 1024 * 1024


_LARGE_MESSAGE = 16 * 1024 * 1024
"""Facts that carry whole outputs: two streams of at most 1 MiB, of which JSON may make six."""

TOPICS = {
    Topic.EXECUTION_EVENTS: TopicSpec(6, 48, timedelta(days=90), _LARGE_MESSAGE),
    Topic.EXECUTION_TASKS: TopicSpec(3, 12, timedelta(days=3)),
    Topic.SAGA_COMMANDS: TopicSpec(3, 12, timedelta(days=3)),
    Topic.POD_EVENTS: TopicSpec(6, 48, timedelta(days=7)),
    Topic.EXECUTION_RESULTS: TopicSpec(6, 48, timedelta(days=30), _LARGE_MESSAGE),
    Topic.EXECUTION_SUBMISSIONS: TopicSpec(3, 12, timedelta(days=3), _LARGE_MESSAGE),
    Topic.USER_EVENTS: TopicSpec(3, 12, timedelta(days=90)),
    Topic.REPLAY_COMMANDS: TopicSpec(1, 3, timedelta(days=3)),
    Topic.TIMERS: TopicSpec(3, 12, timedelta(days=1)),
    Topic.DEAD_LETTERS: TopicSpec(3, 6, timedelta(days=14), _LARGE_MESSAGE),
}
