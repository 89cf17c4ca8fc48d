"""One function from look to look: sleep, wake, cool down, errors, pauses."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ports.event_log import Position, TopicPartition
from shared.runtime.scaling import (
    PREWAKE,
    Count,
    CronTrigger,
    Decision,
    Failed,
    KafkaTrigger,
    MongoTrigger,
    Positions,
    Reading,
    ScaledObject,
    Scaler,
    Tempo,
    Trigger,
    Unbuildable,
    WorkloadTrigger,
)
from shared.runtime.scaling.cron import parse_schedule
from shared.runtime.scaling.objects import Annotations, Behavior, Fallback
from shared.runtime.scaling.readings import decide_trigger

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OWN = KafkaTrigger(
    name="tasks", topic="tasks", group="worker", threshold=10, offset_reset_policy="earliest"
)
AHEAD = KafkaTrigger(
    name=PREWAKE, topic="events", group="head", threshold=1000, offset_reset_policy="earliest"
)
OTHER = KafkaTrigger(
    name="other", topic="other", group="worker", threshold=10, offset_reset_policy="earliest"
)
NEVER_LOOKS = Tempo(interval=timedelta(days=1000))


def at(seconds: float) -> datetime:
    """Return the instant so many seconds after the start."""
    return START + timedelta(seconds=seconds)


def lag(size: int, *, topic: str = "tasks") -> Positions:
    """Return three partitions, all lag in the first."""
    behind = Position(start=0, end=size, committed=0)
    done = Position(start=0, end=0, committed=0)
    return Positions(
        {
            TopicPartition(topic, 0): behind,
            TopicPartition(topic, 1): done,
            TopicPartition(topic, 2): done,
        }
    )


def scaled(*triggers: Trigger, **fields: Any) -> ScaledObject:
    """Return a function that cools down for 30 s, by default with one trigger."""
    return ScaledObject(
        name="worker",
        target="worker",
        triggers=triggers or (OWN,),
        **{
            "polling_interval": timedelta(seconds=1),
            "cooldown_period": timedelta(seconds=30),
            "max_replicas": 12,
            "behavior": Behavior(),
            **fields,
        },
    )


def scaler(scaled_object: ScaledObject, *, replicas: int = 0, created: float = -10) -> Scaler:
    """Return its autoscaler, created ten seconds ago."""
    return Scaler(scaled_object, created=at(created), replicas=replicas)


def poll(of: Scaler, second: float, *sizes: int | Reading, pods: int | None = None) -> Decision:
    """Look once, with a lag or another reading per trigger, in the order of the triggers."""
    readings: dict[str, Reading] = {}
    for trigger, size in zip(of.scaled.triggers, sizes, strict=True):
        topic = trigger.topic if isinstance(trigger, KafkaTrigger) else ""
        readings[trigger.name] = lag(size, topic=topic) if isinstance(size, int) else size
    return of.observe(at(second), readings, pods=of.decision.replicas if pods is None else pods)


def replicas_at(of: Scaler, seconds: Iterable[int], size: int) -> Mapping[int, int]:
    """Poll at each second and return the replicas after each."""
    return {second: poll(of, second, size).replicas for second in seconds}


def test_lag_wakes() -> None:
    """One record is enough, and the sentence says so."""
    decision = poll(scaler(scaled()), 0, 1)

    assert decision == Decision(
        replicas=1, active=True, reason="lag 1 on tasks wakes it", hpa_reason=""
    )


def test_no_lag_sleeps_on() -> None:
    """Without work nothing starts."""
    decision = poll(scaler(scaled()), 0, 0)

    assert (decision.replicas, decision.reason) == (0, "asleep, no trigger is active")


def test_wakes_to_the_minimum() -> None:
    """With a minimum of its own it wakes to that many."""
    decision = poll(scaler(scaled(min_replicas=3, idle_replicas=0)), 0, 1)

    assert decision.replicas == 3


def test_prewake_alone_is_active() -> None:
    """Its own lag is 0, but the head of the chain has work."""
    decision = poll(scaler(scaled(OWN, AHEAD)), 0, 0, 1)

    assert (decision.replicas, decision.reason) == (1, "lag 1 of head on events wakes it")


def test_prewake_adds_no_replicas() -> None:
    """Own work wants two, five hundred records ahead want one: two."""
    subject = scaler(scaled(OWN, AHEAD), replicas=1)

    decision = poll(subject, 0, 12, 500)

    assert (decision.replicas, decision.hpa_reason) == (2, "lag 12 on tasks wants 2")


def test_lag_is_told_without_prewake() -> None:
    """What is shown as its lag is its own."""
    subject = scaler(scaled(OWN, AHEAD))

    poll(subject, 0, 7, 500)

    assert subject.lag == {"tasks": 7}


def test_cooldown_is_strict() -> None:
    """Last active at 100, cooldown 30: still up at 130, at zero at 131, from four in one step."""
    subject = scaler(scaled(), replicas=4)
    poll(subject, 100, 1)

    reached = replicas_at(subject, range(101, 132), 0)

    assert (set(reached.values()), reached[130], reached[131]) == ({4, 0}, 4, 0)


def test_cooled_down_is_said() -> None:
    """Who asks why it sleeps is told the period."""
    subject = scaler(scaled(), replicas=4)
    poll(subject, 100, 1)

    assert poll(subject, 131, 0).reason == "cooled down for 30 s"


def test_last_active_keeps_whole_seconds() -> None:
    """Active at 100.9 counts as 100, so it is down at 130.5."""
    subject = scaler(scaled(), replicas=1)
    poll(subject, 100.9, 1)

    assert subject.last_active_at == at(100)
    assert poll(subject, 130.5, 0).replicas == 0


def test_sleeps_at_is_told_while_cooling() -> None:
    """While it cools down the instant of its sleep is known."""
    subject = scaler(scaled(), replicas=1)
    poll(subject, 100, 1)
    active = subject.sleeps_at
    poll(subject, 110, 0)

    assert (active, subject.sleeps_at) == (None, at(130))


def test_sleeps_at_is_gone_in_sleep() -> None:
    """Who sleeps has no bedtime."""
    subject = scaler(scaled(), replicas=1)
    poll(subject, 100, 1)
    poll(subject, 110, 0)
    poll(subject, 131, 0)

    assert subject.sleeps_at is None


def test_never_active_sleeps_at_first_poll() -> None:
    """A Deployment applied with one replica goes to zero at once."""
    assert poll(scaler(scaled(), replicas=1), 0, 0).replicas == 0


def test_initial_cooldown_is_waited_for() -> None:
    """From its creation at -10, 15 s: up at 5, down after."""
    subject = scaler(scaled(initial_cooldown_period=timedelta(seconds=15)), replicas=1)

    assert replicas_at(subject, (0, 5, 6), 0) == {0: 1, 5: 1, 6: 0}


def test_inactive_below_minimum_is_raised() -> None:
    """A minimum of two holds without any work."""
    decision = poll(scaler(scaled(min_replicas=2)), 0, 0)

    assert (decision.replicas, decision.reason) == (2, "2 is the minimum")


def test_minimum_never_sleeps() -> None:
    """Above zero as minimum there is nothing to cool down to."""
    subject = scaler(scaled(min_replicas=1), replicas=1)
    poll(subject, 0, 1)

    assert replicas_at(subject, (10, 1000), 0) == {10: 1, 1000: 1}
    assert subject.sleeps_at is None


def test_idle_replicas_are_gone_to_after_cooldown() -> None:
    """With idle replicas the way is from the minimum to them."""
    subject = scaler(scaled(min_replicas=3, idle_replicas=1), replicas=3)
    poll(subject, 100, 1)

    assert replicas_at(subject, (130, 131), 0) == {130: 3, 131: 1}


def test_failed_trigger_keeps_others_quiet() -> None:
    """One fails, the other has nothing: unchanged."""
    subject = scaler(scaled(OWN, OTHER), replicas=2)

    decision = poll(subject, 0, Failed("no answer"), 0)

    assert (decision.replicas, decision.reason) == (2, "tasks (no answer) failed, replicas stay")


def test_failed_trigger_does_not_hinder_waking() -> None:
    """One fails, the other has work: it wakes."""
    assert poll(scaler(scaled(OWN, OTHER)), 0, Failed("no answer"), 1).replicas == 1


def test_failed_trigger_leaves_last_active_old() -> None:
    """Awake and active beside a failure does not count as active."""
    subject = scaler(scaled(OWN, OTHER), replicas=2)
    poll(subject, 0, 0, 1)

    poll(subject, 5, Failed("no answer"), 1)

    assert subject.last_active_at == at(0)


def test_unbuildable_trigger_blocks_all() -> None:
    """One cannot be built, the other has work: it stays asleep."""
    subject = scaler(scaled(OWN, OTHER))

    decision = poll(subject, 0, Unbuildable("no broker"), 100)

    assert (decision.replicas, decision.active) == (0, True)
    assert "tasks cannot be built (no broker)" in decision.reason


def test_unbuildable_trigger_keeps_it_up() -> None:
    """What is awake stays as it is, long past its cooldown."""
    subject = scaler(scaled(OWN, OTHER), replicas=3)
    poll(subject, 0, 30, 0)

    assert poll(subject, 1000, Unbuildable("no broker"), 0).replicas == 3


def test_missing_topic_is_a_failure() -> None:
    """A topic that does not exist yet is no reason to sleep or to wake."""
    decision = poll(scaler(scaled(), replicas=1), 0, Positions({}))

    assert decision.reason == "tasks (topic tasks does not exist) failed, replicas stay"


def test_partition_without_end_is_not_there() -> None:
    """Two of three partitions have no end offset: one replica is all that can work."""
    partial = dict(lag(400).by_partition)
    partial[TopicPartition("tasks", 1)] = partial[TopicPartition("tasks", 2)] = None

    look = decide_trigger(OWN, Positions(partial), now=START)

    assert (look.size, look.metric) == (400, 10)


def test_other_topics_are_ignored() -> None:
    """One answer of the log may serve several triggers."""
    both = Positions({**lag(3).by_partition, **lag(50, topic="other").by_partition})
    subject = scaler(scaled(OWN))

    subject.observe(START, {"tasks": both}, pods=0)

    assert subject.lag == {"tasks": 3}


def test_fallback_waits_for_its_threshold() -> None:
    """Failures must be strictly more than the threshold."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=2, replicas=3)))

    reached = [poll(subject, second, Failed("no answer")).replicas for second in (0, 1, 2)]

    assert reached == [0, 0, 1]


def test_fallback_is_what_the_hpa_is_told() -> None:
    """Once awake, the HPA goes to the fallback's replicas."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=0, replicas=3)), replicas=1)

    decision = poll(subject, 0, Failed("no answer"))

    assert (decision.replicas, decision.hpa_reason) == (3, "the fallback of tasks wants 3")


def test_fallback_counts_as_active() -> None:
    """A trigger that fell back is no failure any more: it keeps the function awake."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=0, replicas=3)), replicas=1)

    decision = poll(subject, 7, Failed("no answer"))

    assert (decision.active, subject.last_active_at) == (True, at(7))


@pytest.mark.parametrize(
    ("behavior", "expected"),
    [
        ("static", 3),
        ("currentReplicas", 5),
        ("currentReplicasIfHigher", 5),
        ("currentReplicasIfLower", 3),
    ],
)
def test_fallback_behaviors(behavior: Any, expected: int) -> None:
    """A fallback may look at what is there."""
    fallback = Fallback(failure_threshold=0, replicas=3, behavior=behavior)

    assert fallback.replicas_at(5) == expected


def test_success_resets_failures() -> None:
    """Failures count in a row."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=1, replicas=3)))
    answers: list[int | Reading] = [Failed("no answer"), 0, Failed("no answer")]

    reached = [poll(subject, second, answer).replicas for second, answer in enumerate(answers)]

    assert reached == [0, 0, 0]


def test_unbuildable_is_no_failure_for_the_fallback() -> None:
    """A client that cannot be built never leads to the fallback."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=0, replicas=3)))

    assert poll(subject, 0, Unbuildable("bad secret")).replicas == 0


def test_fallback_to_come_keeps_it_up() -> None:
    """While failures are still few, replicas wait for the fallback instead of sleeping."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=9, replicas=3)), replicas=2)

    assert poll(subject, 0, Failed("no answer")).replicas == 2


def test_fallback_of_zero_lets_it_sleep() -> None:
    """A fallback to none does not hold replicas up while failures are few."""
    subject = scaler(scaled(fallback=Fallback(failure_threshold=9, replicas=0)), replicas=2)

    assert poll(subject, 0, Failed("no answer")).replicas == 0


def test_paused_freezes() -> None:
    """Neither work nor its end changes anything."""
    subject = scaler(scaled(annotations=Annotations(paused=True)), replicas=2)

    assert [poll(subject, 0, 400).replicas, poll(subject, 1000, 0).replicas] == [2, 2]


def test_paused_replicas_win() -> None:
    """It goes to the number and stays there."""
    pause = Annotations(paused=True, paused_replicas=5)
    subject = scaler(scaled(annotations=pause), replicas=2)

    assert [poll(subject, 0, 0).replicas, poll(subject, 1000, 0).replicas] == [5, 5]


def test_paused_scale_in_keeps_it_awake() -> None:
    """It never goes to sleep, and no bedtime is told."""
    subject = scaler(scaled(annotations=Annotations(paused_scale_in=True)), replicas=2)
    poll(subject, 0, 1)

    assert poll(subject, 1000, 0).replicas == 2
    assert subject.sleeps_at is None


def test_paused_scale_out_keeps_it_asleep() -> None:
    """It does not wake, and does not count as having been active."""
    subject = scaler(scaled(annotations=Annotations(paused_scale_out=True)))

    assert poll(subject, 0, 400).replicas == 0
    assert subject.last_active_at is None


def test_paused_scale_out_stops_the_hpa_too() -> None:
    """What is awake does not become more."""
    subject = scaler(scaled(annotations=Annotations(paused_scale_out=True)), replicas=1)

    assert poll(subject, 0, 400).replicas == 1


def test_force_activation_wakes() -> None:
    """Without any work it is awake."""
    decision = poll(scaler(scaled(annotations=Annotations(force_activation=True))), 0, 0)

    assert (decision.replicas, decision.active) == (1, True)


def test_hpa_looks_at_its_own_pace() -> None:
    """Polled each second, more replicas come with the HPA's look every 15 s."""
    subject = scaler(scaled())

    reached = replicas_at(subject, range(31), 40)

    assert [second for second in range(1, 31) if reached[second] != reached[second - 1]] == [15]


def test_hpa_asks_for_pods_that_exist() -> None:
    """Two asked for, one there: the ratio is that of one pod."""
    subject = scaler(scaled(), replicas=2)

    assert poll(subject, 0, 22, pods=1).replicas == 3


def test_hpa_reason_is_that_of_the_change() -> None:
    """A change by the HPA is explained in its words."""
    subject = scaler(scaled(max_replicas=2), replicas=1)

    assert poll(subject, 0, 40).reason == "lag 40 on tasks wants 3, 2 is the maximum"


def test_hpa_reason_is_forgotten_in_sleep() -> None:
    """After a sleep the words of the last day do not count."""
    subject = scaler(scaled(), replicas=1)
    poll(subject, 0, 12)

    assert poll(subject, 31, 0).hpa_reason == ""


@pytest.mark.parametrize(
    ("behavior", "after_wake"),
    [pytest.param(None, [1, 4], id="absent"), pytest.param(Behavior(), [1, 1], id="present")],
)
def test_memory_across_sleep(behavior: Behavior | None, after_wake: list[int]) -> None:
    """Four wanted at 0, zero at 60, one record at 120: only the older algorithm goes back to 4."""
    subject = scaler(scaled(behavior=behavior, cooldown_period=timedelta(seconds=59)), replicas=4)
    poll(subject, 0, 35)
    asleep = replicas_at(subject, range(1, 120), 0)[60]

    reached = replicas_at(subject, range(120, 136), 1)

    assert (asleep, [reached[120], reached[135]]) == (0, after_wake)


def test_zero_ignores_the_down_window() -> None:
    """The HPA would hold four for 300 s; sleep comes all the same."""
    subject = scaler(scaled(), replicas=4)
    poll(subject, 0, 40)

    assert replicas_at(subject, range(1, 32), 0)[31] == 0


def test_pods_keep_the_monitor_awake() -> None:
    """An unfinished pod of an executor is enough."""
    trigger = WorkloadTrigger(name="pods", labels={"component": "executor"}, threshold=1000)

    decision = poll(scaler(scaled(trigger)), 0, Count(1))

    assert (decision.replicas, decision.reason) == (1, "pod count 1 wakes it")


@pytest.mark.parametrize(("found", "replicas"), [(5, 0), (6, 1)])
def test_document_activation_is_strict(found: int, replicas: int) -> None:
    """Exactly the activation value does not wake."""
    trigger = MongoTrigger(
        name="due",
        database="integr8s",
        collection="timers",
        conditions={},
        moments={"due_at": "$lte"},
        threshold=100,
        activation=5,
    )

    assert poll(scaler(scaled(trigger)), 0, Count(found)).replicas == replicas


def test_cron_needs_no_reading() -> None:
    """A window opens by itself and gives its replicas to the HPA."""
    window = CronTrigger(
        name="noon",
        start=parse_schedule("0 12 * * *", timezone="UTC"),
        end=parse_schedule("1 12 * * *", timezone="UTC"),
        desired_replicas=2,
    )
    subject = Scaler(scaled(window), created=at(-100))

    reached = [
        subject.observe(at(second), {}, pods=1).replicas for second in (-1, 0, 15, 59, 60, 90)
    ]

    assert reached == [0, 1, 2, 2, 2, 0]


def test_closed_window_says_nothing() -> None:
    """Outside its window a cron trigger is inactive and wants none."""
    window = CronTrigger(
        name="noon",
        start=parse_schedule("0 12 * * *", timezone="UTC"),
        end=parse_schedule("1 12 * * *", timezone="UTC"),
        desired_replicas=2,
    )

    look = decide_trigger(window, None, now=at(60))

    assert (look.metric, look.active) == (0, False)


def test_wrong_reading_is_refused() -> None:
    """A mistake of the caller is no failure of a trigger."""
    with pytest.raises(ValueError, match="which it cannot read"):
        poll(scaler(scaled()), 0, Count(1))


def test_missing_reading_is_refused() -> None:
    """Nothing is decided on a trigger that nobody looked at."""
    with pytest.raises(ValueError, match="trigger tasks got None"):
        scaler(scaled()).observe(START, {}, pods=0)


readings = st.one_of(
    st.integers(0, 500), st.just(Failed("no answer")), st.just(Unbuildable("no broker"))
)
histories = st.lists(st.tuples(readings, readings, st.integers(1, 40)), min_size=1, max_size=60)
bounds = st.tuples(st.integers(0, 3), st.integers(1, 8)).map(lambda it: (it[0], max(it)))


@given(history=histories, bound=bounds, behavior=st.sampled_from([None, Behavior()]))
def test_bounds_hold_in_every_history(
    history: list[tuple[Any, Any, int]], bound: tuple[int, int], behavior: Behavior | None
) -> None:
    """Begun within the bounds, it never leaves them, whatever fails."""
    minimum, maximum = bound
    subject = scaler(
        scaled(OWN, AHEAD, min_replicas=minimum, max_replicas=maximum, behavior=behavior),
        replicas=minimum,
    )
    second = 0

    for own, ahead, step in history:
        second += step
        decision = poll(subject, second, own, ahead)
        assert minimum <= decision.replicas <= maximum


@given(history=histories)
def test_zero_only_when_cooled(history: list[tuple[Any, Any, int]]) -> None:
    """It goes to zero only after more than the cooldown, and only without work or trouble."""
    subject = scaler(scaled(OWN, AHEAD), replicas=1)
    second = 0

    for own, ahead, step in history:
        second += step
        before, last_active = subject.decision.replicas, subject.last_active_at
        decision = poll(subject, second, own, ahead)
        if before and not decision.replicas:
            assert (own, ahead) == (0, 0)
            assert last_active is None or at(second) - last_active > timedelta(seconds=30)


@given(size=st.integers(0, 200), activation=st.integers(0, 200))
def test_waking_is_strictly_above_activation(size: int, activation: int) -> None:
    """It wakes exactly when there is more than the activation value."""
    trigger = KafkaTrigger(
        name="tasks",
        topic="tasks",
        group="worker",
        activation=activation,
        offset_reset_policy="earliest",
    )

    decision = poll(scaler(scaled(trigger)), 0, size)

    assert decision.replicas == (1 if size > activation else 0)


@given(history=histories)
def test_bedtime_is_kept(history: list[tuple[Any, Any, int]]) -> None:
    """If nothing comes it is up at the bedtime that was told, and asleep right after."""
    subject = Scaler(scaled(OWN, AHEAD), created=at(-10), replicas=1, tempo=NEVER_LOOKS)
    second = 0
    for own, ahead, step in history:
        second += step
        poll(subject, second, own, ahead)
    bedtime = subject.sleeps_at

    if bedtime is not None:
        bed = (bedtime - START).total_seconds()
        assert poll(subject, bed, 0, 0).replicas == 1
        assert poll(subject, bed + 0.5, 0, 0).replicas == 0
