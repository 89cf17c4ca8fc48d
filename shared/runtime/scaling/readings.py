"""What was read for a trigger, and what the trigger makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.ports.event_log import Position, TopicPartition
from shared.runtime.scaling.kafka import Measure, decide_lags, lag_of
from shared.runtime.scaling.objects import (
    PREWAKE,
    CronTrigger,
    KafkaTrigger,
    MongoTrigger,
    Trigger,
    WorkloadTrigger,
)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a trigger's group stands; partitions of other topics are ignored.

    None stands for a partition that the log left out of its answer.
    """

    by_partition: Mapping[TopicPartition, Position | None]


@dataclass(frozen=True, slots=True)
class Count:
    """How many documents match, or how many pods there are."""

    value: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The source gave no answer this time."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unbuildable:
    """There is not even a client for the source: unreachable, or a secret is wrong."""

    reason: str


Reading = Positions | Count | Failed | Unbuildable


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One trigger at one instant."""

    name: str
    cause: str
    """What there is to do, in words: `lag 12 on execution_events`."""
    size: int = 0
    """Lag or count, before any cap."""
    metric: int | None = None
    """What the HPA is told; None where the trigger failed."""
    active: bool = False
    failure: str | None = None
    unbuildable: bool = False


def decide_trigger(trigger: Trigger, reading: Reading | None, *, now: datetime) -> Look:
    """Return what a trigger reports. A cron trigger knows by itself and needs no reading.

    Raises:
        ValueError: The reading is missing, or of another kind than the trigger.
    """
    match trigger, reading:
        case _, Failed(reason):
            return Look(name=trigger.name, cause=trigger.name, failure=reason)
        case _, Unbuildable(reason):
            return Look(name=trigger.name, cause=trigger.name, failure=reason, unbuildable=True)
        case CronTrigger(), _:
            return _decide_cron(trigger, now)
        case KafkaTrigger(), Positions(by_partition):
            return _decide_kafka(trigger, by_partition)
        case WorkloadTrigger(), Count(value):
            return _decide_count(trigger, value, cause=f"pod count {value}")
        case MongoTrigger(), Count(value):
            return _decide_count(
                trigger, value, cause=f"document count {value} in {trigger.collection}"
            )
        case _:
            raise ValueError(f"trigger {trigger.name} got {reading!r}, which it cannot read")


def _decide_kafka(
    trigger: KafkaTrigger, by_partition: Mapping[TopicPartition, Position | None]
) -> Look:
    positions = [
        position for place, position in by_partition.items() if place.topic == trigger.topic
    ]
    if not positions:
        return Look(
            name=trigger.name, cause=trigger.name, failure=f"topic {trigger.topic} does not exist"
        )
    lags = [
        lag_of(position, policy=trigger.offset_reset_policy)
        for position in positions
        # Without an end offset a partition is as good as not there, also for the cap.
        if position is not None
    ]
    measure = decide_lags(lags, threshold=trigger.threshold, activation=trigger.activation)
    size = sum(lag.activity for lag in lags)
    whose = f" of {trigger.group}" if trigger.name == PREWAKE else ""
    return _look(trigger, measure, size=size, cause=f"lag {size}{whose} on {trigger.topic}")


def _decide_count(trigger: WorkloadTrigger | MongoTrigger, value: int, *, cause: str) -> Look:
    measure = Measure(value, active=value > trigger.activation)
    return _look(trigger, measure, size=value, cause=cause)


def _decide_cron(trigger: CronTrigger, now: datetime) -> Look:
    is_open = trigger.is_open(now)
    measure = Measure(trigger.desired_replicas if is_open else 0, active=is_open)
    return _look(trigger, measure, size=measure.metric, cause=f"window {trigger.name} is open")


def _look(trigger: Trigger, measure: Measure, *, size: int, cause: str) -> Look:
    return Look(
        name=trigger.name, cause=cause, size=size, metric=measure.metric, active=measure.active
    )


def threshold_of(trigger: Trigger) -> int:
    """Return the metric that one replica is meant to carry."""
    return 1 if isinstance(trigger, CronTrigger) else trigger.threshold
