"""What a ScaledObject says, as values: the triggers, the bounds, the periods, the pauses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from shared.ports.documents import Filter
from shared.runtime.scaling.cron import Schedule

PREWAKE = "prewake"
"""Name of the trigger that wakes a function along with the head of the chain, not by own work."""

OffsetResetPolicy = Literal["earliest", "latest"]
FallbackBehavior = Literal[
    "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"
]
SelectPolicy = Literal["Max", "Min", "Disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTrigger:
    """Lag of one consumer group on one topic."""

    name: str
    topic: str
    group: str
    threshold: int = 10
    """Records per replica."""
    activation: int = 0
    """Lag that is not yet worth waking for; activity is strictly above."""
    offset_reset_policy: OffsetResetPolicy = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTrigger:
    """Pods with these labels, in the namespace of the ScaledObject, that are not finished."""

    name: str
    labels: Mapping[str, str]
    threshold: int
    activation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoTrigger:
    """Documents of one collection that match a query."""

    name: str
    database: str
    collection: str
    conditions: Filter
    """What a document's fields must be, whatever the time."""
    moments: Mapping[str, str]
    """Field -> operator by which it is compared with the server's present time."""
    threshold: int
    activation: int = 0

    def filter_at(self, now: datetime) -> Filter:
        """Return the query as the `Documents` port takes it, with the present time filled in."""
        where: dict[str, Any] = dict(self.conditions)
        for name, comparison in self.moments.items():
            given = where.get(name, {})
            plain = given if isinstance(given, Mapping) else {"$eq": given}
            where[name] = {**plain, comparison: now}
        return where

    @property
    def watches_outbox(self) -> bool:
        """Say whether it looks for events that a crash left behind, not for documents."""
        return "wake_at" in self.moments


@dataclass(frozen=True, slots=True, kw_only=True)
class CronTrigger:
    """A floor of replicas from each `start` to the next `end`."""

    name: str
    start: Schedule
    end: Schedule
    desired_replicas: int

    def is_open(self, now: datetime) -> bool:
        """Say whether the window is open: the next thing to happen is its end."""
        start, end = self.start.following(now), self.end.following(now)
        return start is None or (end is not None and end <= start)


Trigger = KafkaTrigger | WorkloadTrigger | MongoTrigger | CronTrigger


@dataclass(frozen=True, slots=True)
class Policy:
    """One limit on how many replicas may come or go within a period."""

    kind: Literal["Pods", "Percent"]
    value: int
    period: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How fast replicas may change in one direction."""

    policies: Sequence[Policy]
    select: SelectPolicy = "Max"
    window: timedelta | None = None
    """Time over which wants are compared; None is the cluster's own."""
    tolerance: float | None = None
    """Share by which load may be off before anything changes; None is the cluster's own."""


_PERIOD = timedelta(seconds=15)
SCALE_UP = Rules(
    policies=(Policy("Pods", 4, _PERIOD), Policy("Percent", 100, _PERIOD)), window=timedelta(0)
)
"""What Kubernetes fills in where a behavior does not speak of scaling up."""

SCALE_DOWN = Rules(policies=(Policy("Percent", 100, _PERIOD),))
"""What Kubernetes fills in where a behavior does not speak of scaling down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """The newer algorithm of the HPA. Without one an older algorithm with other limits decides."""

    up: Rules = SCALE_UP
    down: Rules = SCALE_DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What a failing trigger is taken to want."""

    failure_threshold: int
    """Failures in a row; it starts strictly above."""
    replicas: int
    behavior: FallbackBehavior = "static"

    def replicas_at(self, current: int) -> int:
        """Return what it asks for while there are `current` replicas."""
        match self.behavior:
            case "static":
                return self.replicas
            case "currentReplicas":
                return current
            case "currentReplicasIfHigher":
                return max(current, self.replicas)
            case "currentReplicasIfLower":
                return min(current, self.replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """What an operator of the cluster wrote on the object by hand."""

    paused: bool = False
    paused_replicas: int | None = None
    """Go to this many and stay; wins over `paused`."""
    paused_scale_in: bool = False
    paused_scale_out: bool = False
    force_activation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledObject:
    """How one function is scaled. The defaults are KEDA's own."""

    name: str
    target: str
    """The Deployment."""
    triggers: Sequence[Trigger]
    polling_interval: timedelta = timedelta(seconds=30)
    cooldown_period: timedelta = timedelta(seconds=300)
    """From the last poll that found a trigger active, not from the moment lag was gone."""
    initial_cooldown_period: timedelta = timedelta(0)
    """The same, for an object that was never active, from its creation."""
    min_replicas: int = 0
    max_replicas: int = 100
    idle_replicas: int | None = None
    fallback: Fallback | None = None
    behavior: Behavior | None = None
    annotations: Annotations = field(default_factory=Annotations)
