"""Lag of a consumer group, and what KEDA's kafka scaler makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.ports.event_log import Position


@dataclass(frozen=True, slots=True)
class Lag:
    """Lag of one partition, once as a size and once as a sign of life."""

    metric: int
    activity: int


@dataclass(frozen=True, slots=True)
class Measure:
    """What a trigger tells: the number that the HPA is given, and whether there is work."""

    metric: int
    active: bool


def lag_of(
    position: Position | None,
    *,
    policy: Literal["earliest", "latest"],
    zero_on_invalid: bool = False,
    from_start: bool = False,
    stuck_at: int | None = None,
) -> Lag:
    """Return one partition's lag.

    A partition without an end offset (None) has no lag. Without a commit, `latest` says 1 even of
    an empty partition, and `earliest` counts from offset 0, records that retention took included;
    `from_start` counts only what is kept, as a later release is said to do. The difference is not
    clamped: a topic that was made anew gives negative lag, which hides that of its neighbours.

    Args:
        position: Where the group stands.
        policy: KEDA's `offsetResetPolicy`.
        zero_on_invalid: KEDA's `scaleToZeroOnInvalidOffset`.
        from_start: Count from the oldest kept record instead of 0.
        stuck_at: KEDA's `excludePersistentLag`: what was committed at the last look.
    """
    if position is None:
        return Lag(0, 0)
    if position.committed is None:
        lag = _uncommitted(position, policy, zero_on_invalid=zero_on_invalid, from_start=from_start)
        return Lag(lag, lag)
    lag = position.end - position.committed
    return Lag(0 if stuck_at == position.committed else lag, lag)


def _uncommitted(
    position: Position,
    policy: Literal["earliest", "latest"],
    *,
    zero_on_invalid: bool,
    from_start: bool,
) -> int:
    if zero_on_invalid:
        return 0
    if policy == "latest":
        return 1
    return position.end - position.start if from_start else position.end


def decide_lags(
    lags: Sequence[Lag],
    *,
    threshold: int,
    activation: int = 0,
    allow_idle: bool = False,
    with_lag: bool = False,
    even: bool = False,
) -> Measure:
    """Turn the lags of a topic's partitions into what KEDA reports.

    The cap keeps replicas from outnumbering partitions, but divides whole: with 3 partitions and
    a threshold of 10, lags from 31 to 39 pass it and want a fourth replica. Activity looks at the
    uncapped sum, strictly above `activation`. The three flags are KEDA's `allowIdleConsumers`,
    `limitToPartitionsWithLag` and `ensureEvenDistributionOfPartitions`; manifests may not use
    them, they are here so that the formula can be held against KEDA's whole table.
    """
    if with_lag and (allow_idle or even):
        raise ValueError("limitToPartitionsWithLag goes with neither of the other two flags")
    partitions = len(lags)
    bound = sum(lag.metric > 0 for lag in lags) if with_lag else partitions
    metric = sum(lag.metric for lag in lags)
    if even:
        metric = threshold * _even_share(metric, threshold=threshold, partitions=partitions)
    if (even or not allow_idle) and metric // threshold > bound:
        metric = bound * threshold
    return Measure(max(0, metric), sum(lag.activity for lag in lags) > activation)


def _even_share(metric: int, *, threshold: int, partitions: int) -> int:
    """Return the fewest replicas that carry the lag and share the partitions without remainder."""
    fitting = (
        replicas
        for replicas in range(1, partitions + 1)
        if partitions % replicas == 0 and replicas * threshold >= metric
    )
    return next(fitting, partitions)
