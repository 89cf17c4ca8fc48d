"""The decisions about one function, from one look to the next."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.runtime.scaling.hpa import CLUSTER, Demand, Hpa, Tempo, held_behavior
from shared.runtime.scaling.objects import PREWAKE, KafkaTrigger, ScaledObject, Trigger
from shared.runtime.scaling.readings import Look, Reading, decide_trigger, threshold_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and why."""

    replicas: int
    active: bool
    """Whether a trigger is active at this look."""
    reason: str
    """One sentence: the rule that decided."""
    hpa_reason: str
    """What the HPA said at its last look since the function woke; empty before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What KEDA's operator makes of one poll."""

    replicas: int
    reason: str
    refresh: bool = False
    """Whether this poll counts as the last active one."""
    cooling: bool = False
    """Whether nothing but time stands between the function and its sleep."""


class Scaler:
    """One function's autoscaler: KEDA's operator at each call, the HPA whenever its time comes.

    Reads no clock and does no input or output. Whoever calls `observe` brings the time and the
    readings, and applies the answer; a faster clock makes everything faster and decides the same.
    Not to be shared between threads.
    """

    def __init__(
        self, scaled: ScaledObject, *, created: datetime, replicas: int = 0, tempo: Tempo = CLUSTER
    ) -> None:
        """Begin with what is there; `created` is when the ScaledObject came to be."""
        self._scaled = scaled
        self._created = _whole_seconds(created)
        self._replicas = replicas
        self._tempo = tempo
        self._hpa = Hpa(
            minimum=scaled.min_replicas,
            maximum=scaled.max_replicas,
            behavior=held_behavior(
                scaled.behavior,
                no_rise=scaled.annotations.paused_scale_out,
                no_fall=scaled.annotations.paused_scale_in,
            ),
            tempo=tempo,
        )
        self._next_look: datetime | None = None
        self._failures: dict[str, int] = {}
        self._last_active: datetime | None = None
        self._sleeps_at: datetime | None = None
        self._lag: Mapping[str, int] = {}
        self._decision = Decision(
            replicas=replicas, active=False, reason="not looked at yet", hpa_reason=""
        )

    @property
    def scaled(self) -> ScaledObject:
        """Return what the manifest says."""
        return self._scaled

    @property
    def decision(self) -> Decision:
        """Return the answer of the last look."""
        return self._decision

    @property
    def lag(self) -> Mapping[str, int]:
        """Return the lag per topic at the last look; the lag that only pre-wakes is left out."""
        return self._lag

    @property
    def last_active_at(self) -> datetime | None:
        """Return the last poll that counted as active, in whole seconds as KEDA keeps it."""
        return self._last_active

    @property
    def sleeps_at(self) -> datetime | None:
        """Return the instant after which the next look puts it to sleep, if nothing comes.

        None while it sleeps or is active, and while anything but time keeps it up: a minimum, a
        pause, a trigger that fails.
        """
        return self._sleeps_at

    def observe(self, now: datetime, readings: Mapping[str, Reading], *, pods: int) -> Decision:
        """Poll once and return how many replicas there should be from now on.

        Args:
            now: An aware instant, never before that of the last call.
            readings: What was read, by the trigger's name; cron triggers need none.
            pods: Replicas that exist, which may lag behind what was decided.

        Raises:
            ValueError: A reading is missing, or of the wrong kind.
        """
        looks = [
            decide_trigger(trigger, readings.get(trigger.name), now=now)
            for trigger in self._scaled.triggers
        ]
        self._count_failures(looks)
        self._lag = _lag_by_topic(self._scaled.triggers, looks)
        frozen = _frozen(self._scaled, self._replicas)
        if frozen is not None:
            return self._conclude(now, looks, frozen, hpa_reason="")
        said = self._let_hpa_look(now, looks, pods)
        verdict = self._judge(now, looks)
        hpa_reason = (said or self._decision.hpa_reason) if verdict.replicas else ""
        return self._conclude(now, looks, verdict, hpa_reason=hpa_reason)

    def _conclude(
        self, now: datetime, looks: Sequence[Look], verdict: _Verdict, *, hpa_reason: str
    ) -> Decision:
        has_hpa_moved = self._decision.replicas != self._replicas == verdict.replicas
        self._replicas = verdict.replicas
        if verdict.refresh:
            self._last_active = _whole_seconds(now)
        self._sleeps_at = self._cooled_after() if verdict.cooling else None
        self._decision = Decision(
            replicas=verdict.replicas,
            active=bool(self._causes(looks)),
            reason=hpa_reason if has_hpa_moved else verdict.reason,
            hpa_reason=hpa_reason,
        )
        return self._decision

    def _count_failures(self, looks: Sequence[Look]) -> None:
        if any(look.unbuildable for look in looks):
            return
        for look in looks:
            failures = self._failures.get(look.name, 0)
            self._failures[look.name] = 0 if look.failure is None else failures + 1

    def _has_fallen_back(self, look: Look) -> bool:
        fallback = self._scaled.fallback
        return (
            fallback is not None
            and look.failure is not None
            and self._failures.get(look.name, 0) > fallback.failure_threshold
        )

    def _let_hpa_look(self, now: datetime, looks: Sequence[Look], pods: int) -> str:
        """Return what the HPA says, or nothing where it is not its time.

        It goes before the operator: what wakes now is for its next look, as on a cluster, where
        the two meet at one instant only by accident.
        """
        if self._next_look is not None and now < self._next_look:
            return ""
        self._next_look = now + self._tempo.interval
        step = self._hpa.look(now, replicas=self._replicas, pods=pods, demands=self._demands(looks))
        was_awake = self._replicas > 0
        self._replicas = step.replicas
        return step.reason if was_awake else ""

    def _demands(self, looks: Sequence[Look]) -> Sequence[Demand | None]:
        if any(look.unbuildable for look in looks):
            return [None for _ in looks]
        return [
            self._demand(trigger, look)
            for trigger, look in zip(self._scaled.triggers, looks, strict=True)
        ]

    def _demand(self, trigger: Trigger, look: Look) -> Demand | None:
        threshold = threshold_of(trigger)
        if look.metric is not None:
            return Demand(look.metric, threshold, look.cause)
        if self._scaled.fallback is None or not self._has_fallen_back(look):
            return None
        replicas = self._scaled.fallback.replicas_at(self._replicas)
        return Demand(threshold * replicas, threshold, f"the fallback of {look.name}")

    def _causes(self, looks: Sequence[Look]) -> Sequence[str]:
        """Return why it should be awake, own work first."""
        active = sorted((look for look in looks if look.active), key=lambda it: it.name == PREWAKE)
        causes = [look.cause for look in active]
        causes += [f"the fallback of {look.name}" for look in looks if self._has_fallen_back(look)]
        if self._scaled.annotations.force_activation:
            causes.append("the annotation that forces activation")
        return causes

    def _judge(self, now: datetime, looks: Sequence[Look]) -> _Verdict:
        """Take the first row of the operator's table that applies."""
        blocker = next((look for look in looks if look.unbuildable), None)
        if blocker is not None:
            return self._stay(
                f"trigger {blocker.name} cannot be built ({blocker.failure}),"
                " which blocks all of them"
            )
        # A fallback takes the place of the failure: to the operator the trigger is well.
        failed = [
            f"{look.name} ({look.failure})"
            for look in looks
            if look.failure is not None and not self._has_fallen_back(look)
        ]
        causes = self._causes(looks)
        return self._judge_active(causes[0], failed) if causes else self._judge_idle(now, failed)

    def _stay(self, reason: str) -> _Verdict:
        return _Verdict(replicas=self._replicas, reason=reason)

    def _judge_active(self, cause: str, failed: Collection[str]) -> _Verdict:
        scaled = self._scaled
        is_idle = scaled.idle_replicas is not None and self._replicas < scaled.min_replicas
        if self._replicas == 0 or is_idle:
            if scaled.annotations.paused_scale_out:
                return self._stay(f"{cause} would wake it, but scaling out is paused")
            return _Verdict(
                replicas=max(1, scaled.min_replicas), reason=f"{cause} wakes it", refresh=True
            )
        if failed:
            return self._stay(f"{cause} keeps it awake, but {', '.join(failed)} failed")
        return _Verdict(replicas=self._replicas, reason=f"{cause} keeps it awake", refresh=True)

    def _judge_idle(self, now: datetime, failed: Collection[str]) -> _Verdict:
        scaled = self._scaled
        if failed and (scaled.fallback is None or scaled.fallback.replicas > 0):
            return self._stay(f"{', '.join(failed)} failed, replicas stay")
        floor = scaled.idle_replicas
        if (floor is not None and self._replicas > floor) or (
            scaled.min_replicas == 0 and self._replicas > 0
        ):
            return self._judge_sleep(now, floor or 0)
        if floor is None and self._replicas < scaled.min_replicas:
            return _Verdict(
                replicas=scaled.min_replicas, reason=f"{scaled.min_replicas} is the minimum"
            )
        return self._stay(
            "asleep, no trigger is active"
            if not self._replicas
            else "no trigger is active, the minimum stays"
        )

    def _judge_sleep(self, now: datetime, floor: int) -> _Verdict:
        if self._scaled.annotations.paused_scale_in:
            return self._stay("no trigger is active, but scaling in is paused")
        period = self._cooldown() // timedelta(seconds=1)
        if self._cooled_after() < now:
            return _Verdict(replicas=floor, reason=f"cooled down for {period} s")
        return _Verdict(
            replicas=self._replicas,
            reason=f"no trigger is active, cooling down for {period} s",
            cooling=True,
        )

    def _cooldown(self) -> timedelta:
        if self._last_active is None:
            return self._scaled.initial_cooldown_period
        return self._scaled.cooldown_period

    def _cooled_after(self) -> datetime:
        return (self._last_active or self._created) + self._cooldown()


def _frozen(scaled: ScaledObject, replicas: int) -> _Verdict | None:
    fixed = scaled.annotations.paused_replicas
    if fixed is not None:
        return _Verdict(replicas=fixed, reason=f"paused at {fixed} by annotation")
    if scaled.annotations.paused:
        return _Verdict(replicas=replicas, reason="paused by annotation")
    return None


def _lag_by_topic(triggers: Sequence[Trigger], looks: Sequence[Look]) -> Mapping[str, int]:
    return {
        trigger.topic: look.size
        for trigger, look in zip(triggers, looks, strict=True)
        if isinstance(trigger, KafkaTrigger) and trigger.name != PREWAKE
    }


def _whole_seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)
