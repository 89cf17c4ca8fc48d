"""What the autoscaler sees and does, for people to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FunctionState:
    """One function now: asleep or awake, and why."""

    slug: str
    replicas: int
    min_replicas: int
    max_replicas: int
    lag: Mapping[str, int]
    """Records past the committed offset, per topic."""
    active: bool
    """Whether a trigger is active at the last look."""
    last_active_at: datetime | None
    sleeps_at: datetime | None
    """When it goes to zero if nothing comes; None while asleep or active."""
    reason: str
    """One sentence: which rule decided."""
    last_cold_start: timedelta | None


@dataclass(frozen=True, slots=True)
class ScalingPoint:
    """One change of a function's replicas."""

    at: datetime
    replicas: int
    lag: int
    reason: str


class Scaling(Protocol):
    """A look at every function's replicas."""

    async def functions(self) -> Sequence[FunctionState]:
        """Return the state of each function, by slug.

        Raises:
            TemporaryError: Whoever scales gave no answer.
        """

    def history(self, slug: str, *, since: datetime) -> Sequence[ScalingPoint]:
        """Return the changes of one function's replicas, oldest first; none for an unknown slug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One function as a cluster's own autoscaler has it."""

    slug: str
    replicas: int
    min_replicas: int
    max_replicas: int
    active: bool
    last_active_at: datetime | None
    cooldown: timedelta
    paused: bool
    ready: bool
    """Whether all of its triggers can be asked."""
    message: str
    """Why not, in the autoscaler's words."""


class Workloads(Protocol):
    """The functions of a cluster."""

    async def all(self) -> Sequence[Workload]:
        """Return every function that is scaled, by slug.

        Raises:
            TemporaryError: No answer, or this process may not ask.
        """
