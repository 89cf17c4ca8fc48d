"""Lag, cap and activity, held against KEDA's table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ports.event_log import Position
from shared.runtime.scaling.hpa import wanted_replicas
from shared.runtime.scaling.kafka import Lag, decide_lags, lag_of


def lags(*sizes: int) -> list[Lag]:
    """Return plain lags of these sizes, one per partition."""
    return [Lag(size, size) for size in sizes]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        pytest.param(Position(start=0, end=0, committed=None), 1, id="empty"),
        pytest.param(Position(start=500, end=520, committed=None), 1, id="with-records"),
    ],
)
def test_latest_without_commit_is_one(position: Position, expected: int) -> None:
    """A group that never committed has a lag of 1 for ever, even on an empty partition."""
    assert lag_of(position, policy="latest").metric == expected


def test_latest_on_empty_partitions_stays_awake() -> None:
    """Three empty partitions without a commit report 3 and are active."""
    empty = lag_of(Position(start=0, end=0, committed=None), policy="latest")

    measure = decide_lags([empty] * 3, threshold=10)

    assert (measure.metric, measure.active) == (3, True)


def test_earliest_on_empty_partitions_sleeps() -> None:
    """With earliest the same three partitions have no lag."""
    empty = lag_of(Position(start=0, end=0, committed=None), policy="earliest")

    measure = decide_lags([empty] * 3, threshold=10)

    assert (measure.metric, measure.active) == (0, False)


@pytest.mark.parametrize(
    ("from_start", "expected"), [pytest.param(False, 520, id="e"), pytest.param(True, 20, id="e-s")]
)
def test_earliest_without_commit_counts_expired_records(*, from_start: bool, expected: int) -> None:
    """Records that retention took count too, unless the later formula is asked for."""
    position = Position(start=500, end=520, committed=None)

    lag = lag_of(position, policy="earliest", from_start=from_start)

    assert lag == Lag(expected, expected)


@pytest.mark.parametrize("policy", ["earliest", "latest"])
def test_zero_on_invalid_never_wakes(policy: str) -> None:
    """The flag that hides missing commits hides all work with them."""
    position = Position(start=0, end=40, committed=None)

    lag = lag_of(
        position, policy="latest" if policy == "latest" else "earliest", zero_on_invalid=True
    )

    assert lag == Lag(0, 0)


def test_partition_without_end_has_no_lag() -> None:
    """A partition that the broker left out of its answer counts as caught up."""
    assert lag_of(None, policy="earliest") == Lag(0, 0)


def test_committed_lag_is_the_difference() -> None:
    """Otherwise lag is what lies between the commit and the end."""
    assert lag_of(Position(start=3, end=19, committed=7), policy="earliest") == Lag(12, 12)


def test_recreated_topic_hides_other_partitions() -> None:
    """A negative difference is not clamped: work waits in the neighbour and nothing wakes."""
    gone = lag_of(Position(start=0, end=5, committed=100), policy="earliest")
    waiting = lag_of(Position(start=0, end=3, committed=0), policy="earliest")

    measure = decide_lags([gone, waiting], threshold=10)

    assert (gone.metric + waiting.metric, measure.metric, measure.active) == (-92, 0, False)


def test_persistent_lag_keeps_activity() -> None:
    """Lag whose commit did not move is no size any more, but still a sign of life."""
    lag = lag_of(Position(start=0, end=17, committed=10), policy="earliest", stuck_at=10)

    measure = decide_lags([lag], threshold=10)

    assert (measure.metric, measure.active) == (0, True)


def test_persistent_lag_counts_once_the_commit_moved() -> None:
    """A commit that moved since the last look makes lag count again."""
    lag = lag_of(Position(start=0, end=17, committed=10), policy="earliest", stuck_at=9)

    assert lag == Lag(7, 7)


_TABLE = [
    (0, 0, False, (1, 1, 1, 1)),
    *((lag, lag, True, (1, 1, 1, 1)) for lag in (1, 9, 10)),
    (11, 11, True, (1, 2, 2, 2)),
    (12, 12, True, (2, 2, 2, 2)),
    *((lag, lag, True, (3, 3, 3, 3)) for lag in (25, 27, 30)),
    *((lag, lag, True, (4, 4, 3, 4)) for lag in (31, 32, 33)),
    *((lag, lag, True, (4, 4, 4, 4)) for lag in range(34, 40)),
    *((lag, 30, True, (3, 3, 3, 3)) for lag in (40, 400)),
]


@pytest.mark.parametrize(
    ("lag", "metric", "active", "wants"),
    [pytest.param(*row, id=f"lag-{row[0]}") for row in _TABLE],
)
def test_lag_in_one_of_three_partitions(
    lag: int, metric: int, *, active: bool, wants: tuple[int, ...]
) -> None:
    """Metric, activity and want for 1 to 4 pods, the fourth replica of 31..39 included."""
    measure = decide_lags(lags(lag, 0, 0), threshold=10)

    wanted = tuple(
        max(1, wanted_replicas(measure.metric, threshold=10, pods=pods)) for pods in (1, 2, 3, 4)
    )

    assert (measure.metric, measure.active, wanted) == (metric, active, wants)


@pytest.mark.parametrize(
    ("sizes", "metric"),
    [
        pytest.param((400, 0, 0), 10, id="one-busy"),
        pytest.param((19, 0, 0), 19, id="slips-through"),
        pytest.param((20, 0, 0), 10, id="capped"),
        pytest.param((30, 30, 0), 20, id="two-busy"),
    ],
)
def test_limit_to_partitions_with_lag(sizes: tuple[int, ...], metric: int) -> None:
    """The cap counts the partitions that have something."""
    assert decide_lags(lags(*sizes), threshold=10, with_lag=True).metric == metric


def test_limited_19_wants_two() -> None:
    """What slips through the whole division wants a second replica for one partition."""
    measure = decide_lags(lags(19, 0, 0), threshold=10, with_lag=True)

    assert wanted_replicas(measure.metric, threshold=10, pods=1) == 2


def test_allow_idle_is_not_capped() -> None:
    """Consumers without a partition may be wanted."""
    measure = decide_lags(lags(400, 0, 0), threshold=10, allow_idle=True)

    assert (measure.metric, wanted_replicas(measure.metric, threshold=10, pods=3)) == (400, 40)


def test_allow_idle_with_even_is_capped() -> None:
    """The second flag takes back what the first one allowed."""
    measure = decide_lags(lags(400, 0, 0), threshold=10, allow_idle=True, even=True)

    assert measure.metric == 30


@pytest.mark.parametrize(
    ("lag", "metric"), [(0, 10), (10, 10), (11, 20), (21, 30), (31, 60), (36, 60), (90, 60)]
)
def test_even_distribution_of_six(lag: int, metric: int) -> None:
    """The next divisor of six partitions whose share fits."""
    assert decide_lags(lags(lag, 0, 0, 0, 0, 0), threshold=10, even=True).metric == metric


@pytest.mark.parametrize("other", ["allow_idle", "even"])
def test_limit_goes_with_no_other_flag(other: str) -> None:
    """KEDA refuses the combination, and so does the formula."""
    with pytest.raises(ValueError, match="goes with neither"):
        decide_lags(lags(1), threshold=10, with_lag=True, **{other: True})


@pytest.mark.parametrize(("lag", "active"), [(5, False), (6, True)])
def test_activation_is_strict(lag: int, *, active: bool) -> None:
    """A lag of exactly the activation value does not wake."""
    assert decide_lags(lags(lag, 0, 0), threshold=10, activation=5).active is active


@given(
    sizes=st.lists(st.integers(0, 10_000), min_size=1, max_size=64),
    threshold=st.integers(1, 1000),
    activation=st.integers(0, 1000),
)
def test_cap_lets_at_most_one_through(sizes: list[int], threshold: int, activation: int) -> None:
    """Whatever the lag, the want exceeds the partitions by one at most; activity is strict."""
    measure = decide_lags(lags(*sizes), threshold=threshold, activation=activation)

    assert measure.metric <= sum(sizes)
    assert -(-measure.metric // threshold) <= len(sizes) + 1
    assert measure.active == (sum(sizes) > activation)
