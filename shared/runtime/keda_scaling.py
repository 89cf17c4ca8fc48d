"""The view of functions that KEDA scales: what KEDA did, and the lag by our own look at the log."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog
from shared.ports.scaling import FunctionState, ScalingPoint, Workload, Workloads
from shared.runtime.functions import SLUGS, load

_LOG = logging.getLogger(__name__)
_FRESH = timedelta(seconds=1)
"""How long one look is shown to everybody: KEDA itself looks no more often."""


class KedaScaling:
    """A look at every function's replicas; takes no part in scaling them."""

    def __init__(self, workloads: Workloads, log: EventLog, clock: Clock) -> None:
        """Look through these, when asked to."""
        self._workloads, self._log, self._clock = workloads, log, clock
        self._seen: Sequence[FunctionState] = ()
        self._seen_at: datetime | None = None
        self._why_not = ""
        self._looking = asyncio.Lock()

    async def functions(self) -> Sequence[FunctionState]:
        """Return the state of each function, by slug.

        Raises:
            TemporaryError: The cluster or the log gave no answer.
        """
        async with self._looking:
            now = self._clock.now()
            if self._seen_at is None or now - self._seen_at >= _FRESH:
                try:
                    self._seen = await self._look()
                except TemporaryError as error:
                    self._note(str(error))
                    raise
                self._note("")
                self._seen_at = self._clock.now()
            return self._seen

    async def _look(self) -> Sequence[FunctionState]:
        found = await self._workloads.all()
        lags = await asyncio.gather(*(self._lag(one.slug) for one in found))
        return [_state(*both) for both in zip(found, lags, strict=True)]

    def _note(self, why: str) -> None:
        """Tell the operator, once, what those who ask are not told."""
        if why and why != self._why_not:
            _LOG.warning("the functions' replicas cannot be seen: %s", why)
        self._why_not = why

    def history(self, slug: str, *, since: datetime) -> Sequence[ScalingPoint]:  # noqa: ARG002
        """Return nothing: KEDA keeps no history of what it did; its metrics do."""
        return ()

    async def _lag(self, slug: str) -> Mapping[str, int]:
        topics = [topic.value for topic in load(slug).spec.topics] if slug in SLUGS else []
        if not topics:
            return {}
        lag: dict[str, int] = defaultdict(int)
        for place, position in (await self._log.positions(slug, topics)).items():
            begin = position.start if position.committed is None else position.committed
            lag[place.topic] += max(0, position.end - begin)
        return dict(lag)


def _state(workload: Workload, lag: Mapping[str, int]) -> FunctionState:
    sleeps_at = None
    last = workload.last_active_at
    may_sleep = workload.replicas and not workload.min_replicas and not workload.active
    if may_sleep and last is not None:
        sleeps_at = last + workload.cooldown
    return FunctionState(
        slug=workload.slug,
        replicas=workload.replicas,
        min_replicas=workload.min_replicas,
        max_replicas=workload.max_replicas,
        lag=lag,
        active=workload.active,
        last_active_at=last,
        sleeps_at=sleeps_at,
        reason=_reason(workload),
        last_cold_start=None,
    )


def _reason(workload: Workload) -> str:
    if not workload.ready:
        return f"KEDA cannot ask its triggers: {workload.message}"
    if workload.paused:
        return "paused by an operator"
    if workload.active:
        return "a trigger is active"
    seconds = workload.cooldown.total_seconds()
    return f"cools down for {seconds:g} s" if workload.replicas else "asleep, no trigger is active"
