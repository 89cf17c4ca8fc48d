"""The Kubernetes half: tolerance, limits, windows, memory."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.scaling.hpa import Demand, Hpa, Tempo, held_behavior, wanted_replicas
from shared.runtime.scaling.objects import SCALE_DOWN, SCALE_UP, Behavior, Policy, Rules

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOOK = timedelta(seconds=15)
WRITTEN = Behavior()


def wanting(replicas: int) -> list[Demand | None]:
    """Return one demand that is met by so many replicas."""
    return [Demand(metric=replicas * 10, threshold=10, cause="work")]


def walk(hpa: Hpa, wants: Sequence[int], *, replicas: int, every: timedelta = LOOK) -> list[int]:
    """Return the replicas after each look, with as many pods as were asked for."""
    reached = []
    for index, want in enumerate(wants):
        step = hpa.look(
            START + index * every, replicas=replicas, pods=replicas, demands=wanting(want)
        )
        replicas = step.replicas
        reached.append(replicas)
    return reached


def hpa(behavior: Behavior | None = None, *, minimum: int = 0, maximum: int = 12) -> Hpa:
    """Return an autoscaler without a past."""
    return Hpa(minimum=minimum, maximum=maximum, behavior=behavior)


@pytest.mark.parametrize(
    ("metric", "pods", "want"),
    [
        pytest.param(640, 63, 63, id="stuck-at-63-of-64"),
        pytest.param(185, 20, 20, id="within-tolerance"),
        pytest.param(179, 20, 18, id="below-tolerance"),
        pytest.param(40, 0, 4, id="no-pod-yet"),
    ],
)
def test_tolerance(metric: int, pods: int, want: int) -> None:
    """A ratio between 0.9 and 1.1 changes nothing, and without pods the ratio is infinite."""
    assert wanted_replicas(metric, threshold=10, pods=pods) == want


@pytest.mark.parametrize(("up", "want"), [(0.1, 3), (0.02, 4)])
def test_tolerance_may_be_narrowed(up: float, want: int) -> None:
    """A behavior may ask for a change at a smaller difference."""
    narrow = Behavior(up=Rules(policies=SCALE_UP.policies, window=timedelta(0), tolerance=up))

    step = hpa(narrow).look(START, replicas=3, pods=3, demands=[Demand(32, 10, "work")])

    assert step.replicas == want


def test_largest_want_counts() -> None:
    """Of two triggers the larger want decides, not the sum."""
    demands = [Demand(20, 10, "own lag"), Demand(500, 1000, "pre-wake")]

    step = hpa(WRITTEN).look(START, replicas=1, pods=1, demands=demands)

    assert (step.replicas, step.reason) == (2, "own lag wants 2")


def test_steps_without_behavior() -> None:
    """Nine are reached by doubling, four at least."""
    assert walk(hpa(), [9, 9, 9], replicas=1) == [4, 8, 9]


def test_steps_with_behavior() -> None:
    """Nine are reached by four more, then the rest once 15 s have passed."""
    assert walk(hpa(WRITTEN), [9, 9], replicas=1) == [5, 9]


def test_second_step_waits_for_the_period() -> None:
    """A look within the 15 s of the first step may not add to it."""
    assert walk(hpa(WRITTEN), [9, 9, 9], replicas=1, every=timedelta(seconds=14)) == [5, 5, 9]


def test_percent_policy_rounds_up() -> None:
    """A tenth of three pods is one pod, or nothing would ever rise."""
    tenth = Rules(policies=(Policy("Percent", 10, LOOK),), window=timedelta(0))

    assert walk(hpa(Behavior(up=tenth)), [9], replicas=3) == [4]


def test_smallest_policy_may_be_chosen() -> None:
    """With Min the policy that changes least decides."""
    both = Rules(policies=SCALE_UP.policies, select="Min", window=timedelta(0))

    assert walk(hpa(Behavior(up=both)), [9], replicas=1) == [2]


def test_disabled_direction_stays() -> None:
    """With Disabled nothing rises."""
    never = Rules(policies=SCALE_UP.policies, select="Disabled", window=timedelta(0))

    assert walk(hpa(Behavior(up=never)), [9], replicas=2) == [2]


def test_earlier_rise_forbids_another_after_a_sleep() -> None:
    """Eight came, all went to sleep: within the period the one that woke stays alone."""
    autoscaler = hpa(WRITTEN, maximum=20)
    autoscaler.look(START, replicas=8, pods=8, demands=wanting(16))

    step = autoscaler.look(START + timedelta(seconds=14), replicas=1, pods=1, demands=wanting(16))

    assert step.replicas == 1


def test_earlier_fall_forbids_another() -> None:
    """Three went to meet the maximum: within the period no more may go, and none comes back."""
    slow = Rules(policies=(Policy("Pods", 1, LOOK),), window=timedelta(0))

    reached = walk(
        hpa(Behavior(down=slow), maximum=6), [1, 1], replicas=9, every=timedelta(seconds=14)
    )

    assert reached == [6, 6]


def test_fall_is_limited_by_policies() -> None:
    """One pod a period, whatever is wanted."""
    slow = Rules(policies=(Policy("Pods", 1, LOOK),), window=timedelta(0))

    assert walk(hpa(Behavior(down=slow)), [1, 1], replicas=4) == [3, 2]


def test_smallest_fall_may_be_chosen() -> None:
    """With Min the policy that takes fewest away decides."""
    policies = (Policy("Pods", 1, LOOK), Policy("Percent", 50, LOOK))
    slow = Rules(policies=policies, select="Min", window=timedelta(0))

    assert walk(hpa(Behavior(down=slow)), [1], replicas=8) == [7]


@pytest.mark.parametrize("behavior", [None, WRITTEN], ids=["absent", "present"])
def test_first_sight_counts_as_want(behavior: Behavior | None) -> None:
    """Taking over three replicas does not shrink them at once."""
    assert walk(hpa(behavior), [1], replicas=3) == [3]


@pytest.mark.parametrize(
    ("behavior", "held"),
    [pytest.param(None, 21, id="absent"), pytest.param(WRITTEN, 20, id="present")],
)
def test_down_window_holds(behavior: Behavior | None, held: int) -> None:
    """What was wanted keeps replicas up for 300 s; the older algorithm counts the last instant."""
    reached = walk(hpa(behavior), [4, *[1] * 21], replicas=4)

    assert reached == [4] * held + [1] * (22 - held)


def test_own_down_window_holds() -> None:
    """A window of one's own replaces the 300 s."""
    short = Behavior(down=Rules(policies=SCALE_DOWN.policies, window=timedelta(seconds=60)))

    assert walk(hpa(short), [4, 1, 1, 1, 1, 1], replicas=4) == [4, 4, 4, 4, 1, 1]


def test_up_window_holds_back() -> None:
    """A rise waits until nothing lower was wanted within its window."""
    slow = Behavior(up=Rules(policies=SCALE_UP.policies, window=timedelta(seconds=30)))

    assert walk(hpa(slow), [3, 3, 3], replicas=1) == [1, 1, 3]


def test_memory_raises_without_behavior() -> None:
    """A burst of four, a sleep, one record: the old want makes it four again."""
    autoscaler = hpa()
    autoscaler.look(START, replicas=4, pods=4, demands=wanting(4))

    step = autoscaler.look(
        START + timedelta(seconds=120), replicas=1, pods=1, demands=[Demand(1, 10, "lag 1")]
    )

    assert (step.replicas, step.reason) == (4, "lag 1 wants 1, what was wanted before makes it 4")


def test_memory_never_raises_with_behavior() -> None:
    """The same history with a behavior: one stays one."""
    autoscaler = hpa(WRITTEN)
    autoscaler.look(START, replicas=4, pods=4, demands=wanting(4))

    step = autoscaler.look(
        START + timedelta(seconds=120), replicas=1, pods=1, demands=[Demand(1, 10, "lag 1")]
    )

    assert step.replicas == 1


def test_sleep_keeps_memory() -> None:
    """Looks at zero replicas change nothing and note nothing."""
    autoscaler = hpa()
    autoscaler.look(START, replicas=4, pods=4, demands=wanting(4))

    asleep = autoscaler.look(START + LOOK, replicas=0, pods=0, demands=wanting(0))
    awake = autoscaler.look(START + 2 * LOOK, replicas=1, pods=1, demands=wanting(1))

    assert (asleep.replicas, awake.replicas) == (0, 4)


@pytest.mark.parametrize(("replicas", "expected"), [(1, 2), (9, 6)], ids=["below", "above"])
def test_bounds_come_first(replicas: int, expected: int) -> None:
    """Replicas outside the bounds are put within them before any metric is read."""
    step = hpa(WRITTEN, minimum=2, maximum=6).look(
        START, replicas=replicas, pods=replicas, demands=[None]
    )

    assert step.replicas == expected


@pytest.mark.parametrize(("want", "expected"), [(5, 5), (1, 3)], ids=["more", "less"])
def test_failed_trigger_forbids_less(want: int, expected: int) -> None:
    """While one trigger is unknown the others may add, but not take away."""
    prompt = Behavior(down=Rules(policies=SCALE_DOWN.policies, window=timedelta(0)))

    step = hpa(prompt).look(START, replicas=3, pods=3, demands=[None, *wanting(want)])

    assert step.replicas == expected


def test_all_failed_changes_nothing() -> None:
    """Without any metric replicas stay as they are."""
    step = hpa(WRITTEN).look(START, replicas=3, pods=3, demands=[None, None])

    assert (step.replicas, step.reason) == (3, "a trigger failed, replicas stay")


def test_maximum_is_named() -> None:
    """Who asks why there are no more is told that it is the maximum."""
    step = hpa(WRITTEN, maximum=3).look(START, replicas=3, pods=3, demands=wanting(4))

    assert (step.replicas, step.reason) == (3, "work wants 4, 3 is the maximum")


def test_faster_tempo_shrinks_the_window() -> None:
    """The cluster's own window may be sped up; the algebra is the same."""
    quick = Hpa(
        minimum=0, maximum=12, behavior=None, tempo=Tempo(downscale_window=timedelta(seconds=20))
    )

    assert walk(quick, [4, 1, 1], replicas=4) == [4, 4, 1]


def test_pause_of_one_direction_disables_it() -> None:
    """Pausing scale-in leaves scaling out as it was, also where no behavior was written."""
    held = held_behavior(None, no_rise=False, no_fall=True)

    assert walk(hpa(held), [6, 1], replicas=3) == [6, 6]


wants = st.lists(st.integers(0, 40), min_size=1, max_size=40)


@given(
    wants=wants,
    minimum=st.integers(0, 5),
    width=st.integers(0, 20),
    behavior=st.sampled_from([None, WRITTEN]),
)
def test_bounds_hold(wants: list[int], minimum: int, width: int, behavior: Behavior | None) -> None:
    """Whatever is wanted, replicas stay within the bounds, and are never fewer than one."""
    low = max(1, minimum)
    autoscaler = hpa(behavior, minimum=minimum, maximum=low + width)

    reached = walk(autoscaler, wants, replicas=low)

    assert all(low <= replicas <= low + width for replicas in reached)


@given(wants=wants)
def test_written_defaults_rise_as_fast_as_they_may(wants: list[int]) -> None:
    """With a behavior one step never more than adds four or doubles."""
    reached = [1, *walk(hpa(WRITTEN, maximum=100), wants, replicas=1)]

    assert all(after <= max(before + 4, 2 * before) for before, after in pairwise(reached))
