"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often, and for how long."""

    warm_rounds: int
    """One bare pod, one of the adapter and one execution each."""
    cold_rounds: int
    """One bare pod and one execution each; before it everything falls asleep."""
    pods_rounds: int
    pods_seconds: float
    pods_ramp: float
    """At the beginning of a round, not counted."""
    delay_submits: int
    control_seconds: float
    control_ramp: float
    """At the beginning, not counted: what Kafka and the server of documents run on compiles itself
    for half a minute."""
    starts: int


FULL = Sizes(
    warm_rounds=30,
    cold_rounds=7,
    pods_rounds=3,
    pods_seconds=30.0,
    pods_ramp=8.0,
    delay_submits=500,
    control_seconds=30.0,
    control_ramp=40.0,
    starts=9,
)
QUICK = Sizes(
    warm_rounds=5,
    cold_rounds=1,
    pods_rounds=1,
    pods_seconds=15.0,
    pods_ramp=5.0,
    delay_submits=100,
    control_seconds=8.0,
    control_ramp=15.0,
    starts=3,
)
