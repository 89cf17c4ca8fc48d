"""The Kubernetes half: from one replica up, at a slower pace, with a memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.runtime.scaling.objects import SCALE_DOWN, SCALE_UP, Behavior, Policy, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """The pace of a cluster's HPA. It may be sped up; what is computed stays the same."""

    interval: timedelta = timedelta(seconds=15)
    """Between two looks."""
    downscale_window: timedelta = timedelta(seconds=300)
    """How long a want keeps replicas up where the manifest names no window of its own."""
    tolerance: float = 0.1
    """Share by which load may be off before anything changes."""


CLUSTER = Tempo()
"""As Kubernetes comes."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one trigger says: its metric, what one replica is meant to carry, and its words."""

    metric: int
    threshold: int
    cause: str


@dataclass(frozen=True, slots=True)
class Step:
    """How many replicas from now on, and the rule that decided."""

    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Noted:
    """A number and its time: a want, or a change of replicas."""

    at: datetime
    number: int


def wanted_replicas(
    metric: int, *, threshold: int, pods: int, up: float = 0.1, down: float = 0.1
) -> int:
    """Return how many replicas carry the metric, or `pods` where they nearly do.

    `pods` are those that exist, not those that were asked for. Written with the floats and the
    order of the original: at a ratio of exactly 1.1 nothing changes.
    """
    ratio = metric / (threshold * pods) if pods else math.inf
    if 1.0 - down <= ratio <= 1.0 + up:
        return pods
    return math.ceil(metric / threshold)


class Hpa:
    """The autoscaler of one target: keeps what was wanted, and what it changed."""

    def __init__(
        self, *, minimum: int, maximum: int, behavior: Behavior | None, tempo: Tempo = CLUSTER
    ) -> None:
        """Start without a memory; `minimum` is at least 1, sleep is not its business."""
        self._minimum = max(1, minimum)
        self._maximum = maximum
        self._behavior = behavior
        self._tempo = tempo
        self._wants: list[_Noted] = []
        self._raised: list[_Noted] = []
        self._lowered: list[_Noted] = []

    def look(
        self, now: datetime, *, replicas: int, pods: int, demands: Sequence[Demand | None]
    ) -> Step:
        """Return how many replicas there should be; None stands for a trigger that failed."""
        if not self._wants:
            # The first sight of a target counts as a want, so that taking over shrinks nothing.
            self._wants.append(_Noted(now, replicas))
        if replicas == 0:
            return Step(0, "asleep, which is not for the HPA to change")
        bounded = min(max(replicas, self._minimum), self._maximum)
        if bounded != replicas:
            step = Step(bounded, f"{replicas} replicas are put within the bounds")
        else:
            step = self._decide(now, replicas, self._largest_want(demands, replicas, pods))
        self._note_change(now, replicas, step.replicas)
        return step

    def _largest_want(
        self, demands: Sequence[Demand | None], replicas: int, pods: int
    ) -> Step | None:
        """Return the largest want of all triggers, not their sum; None where nothing is known."""
        up, down = self._tolerances()
        known = [
            Step(
                wanted_replicas(
                    demand.metric, threshold=demand.threshold, pods=pods, up=up, down=down
                ),
                demand.cause,
            )
            for demand in demands
            if demand is not None
        ]
        if not known:
            return None
        largest = max(known, key=lambda want: want.replicas)
        # With a trigger unknown, what the others want may only add: the unknown one may need them.
        is_blind = len(known) < len(demands) and largest.replicas < replicas
        return None if is_blind else largest

    def _tolerances(self) -> tuple[float, float]:
        usual = self._tempo.tolerance
        if self._behavior is None:
            return usual, usual
        up, down = self._behavior.up.tolerance, self._behavior.down.tolerance
        return usual if up is None else up, usual if down is None else down

    def _decide(self, now: datetime, replicas: int, want: Step | None) -> Step:
        if want is None:
            return Step(replicas, "a trigger failed, replicas stay")
        said = f"{want.reason} wants {want.replicas}"
        if self._behavior is None:
            held = self._remembered_by_default(now, want.replicas)
            reached = self._limited_by_default(replicas, held)
        else:
            held = self._remembered(now, replicas, want.replicas, self._behavior)
            reached = self._limited(now, replicas, held, self._behavior)
        if held != want.replicas:
            said += f", what was wanted before makes it {held}"
        return Step(reached, said + self._limit_words(held, reached))

    def _limit_words(self, held: int, reached: int) -> str:
        if reached == held:
            return ""
        if reached == self._maximum < held:
            return f", {reached} is the maximum"
        if reached == self._minimum > held:
            return f", {reached} is the minimum"
        return f", {reached} is as far as one step goes"

    def _remembered_by_default(self, now: datetime, want: int) -> int:
        """Without a behavior the largest recent want becomes the want: it may even raise."""
        since = now - self._tempo.downscale_window
        largest = max([want, *(noted.number for noted in self._wants if noted.at >= since)])
        self._note_want(now, want, since)
        return largest

    def _limited_by_default(self, replicas: int, want: int) -> int:
        highest = min(self._maximum, max(2 * replicas, 4))
        return min(max(want, self._minimum), highest)

    def _remembered(self, now: datetime, replicas: int, want: int, behavior: Behavior) -> int:
        """With a behavior recent wants hold back: low ones when rising, high ones when falling."""
        up, down = self._window(behavior.up), self._window(behavior.down)
        window, choose = (up, min) if want >= replicas else (down, max)
        recent = [noted.number for noted in self._wants if noted.at > now - window]
        self._note_want(now, want, now - max(up, down))
        return choose([want, *recent])

    def _window(self, rules: Rules) -> timedelta:
        return self._tempo.downscale_window if rules.window is None else rules.window

    def _note_want(self, now: datetime, want: int, since: datetime) -> None:
        self._wants = [noted for noted in self._wants if noted.at >= since]
        self._wants.append(_Noted(now, want))

    def _limited(self, now: datetime, replicas: int, want: int, behavior: Behavior) -> int:
        if want > replicas:
            highest = max(replicas, self._highest(now, replicas, behavior.up))
            return min(want, self._maximum, highest)
        if want < replicas:
            lowest = min(replicas, self._lowest(now, replicas, behavior.down))
            return max(want, self._minimum, lowest)
        return want

    def _highest(self, now: datetime, replicas: int, rules: Rules) -> int:
        if rules.select == "Disabled":
            return replicas
        reachable = [
            _raised_by(policy, replicas - _changed(self._raised, now, policy.period))
            for policy in rules.policies
        ]
        return min(reachable) if rules.select == "Min" else max(reachable)

    def _lowest(self, now: datetime, replicas: int, rules: Rules) -> int:
        if rules.select == "Disabled":
            return replicas
        reachable = [
            _lowered_by(policy, replicas + _changed(self._lowered, now, policy.period))
            for policy in rules.policies
        ]
        # The smallest change of a fall is the largest number.
        return max(reachable) if rules.select == "Min" else min(reachable)

    def _note_change(self, now: datetime, before: int, after: int) -> None:
        if self._behavior is None or before == after:
            return
        periods = (*self._behavior.up.policies, *self._behavior.down.policies)
        since = now - max(policy.period for policy in periods)
        if after > before:
            self._raised = [*_recent(self._raised, since), _Noted(now, after - before)]
        else:
            self._lowered = [*_recent(self._lowered, since), _Noted(now, before - after)]


def _recent(noted: Sequence[_Noted], since: datetime) -> list[_Noted]:
    return [change for change in noted if change.at > since]


def _changed(noted: Sequence[_Noted], now: datetime, period: timedelta) -> int:
    return sum(change.number for change in _recent(noted, now - period))


def _raised_by(policy: Policy, start: int) -> int:
    """Return how far a policy lets the replicas of its period's start rise."""
    if policy.kind == "Pods":
        return start + policy.value
    return math.ceil(start * (1 + policy.value / 100))


def _lowered_by(policy: Policy, start: int) -> int:
    if policy.kind == "Pods":
        return start - policy.value
    return int(start * (1 - policy.value / 100))


def held_behavior(behavior: Behavior | None, *, no_rise: bool, no_fall: bool) -> Behavior | None:
    """Return the behavior with directions switched off, as KEDA does for a pause of one."""
    if not (no_rise or no_fall):
        return behavior
    up, down = (behavior.up, behavior.down) if behavior else (SCALE_UP, SCALE_DOWN)
    return Behavior(
        up=replace(up, select="Disabled") if no_rise else up,
        down=replace(down, select="Disabled") if no_fall else down,
    )
