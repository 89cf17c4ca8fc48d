"""Replicas of this process go up and down as KEDA would have it, from the same files.

KEDA looks every `pollingInterval`. This autoscaler does too, and looks at once when a record comes
for a function that sleeps: the decision is the same, only the wait for the next look is saved.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.event_log import EventLog
from shared.ports.scaling import FunctionState, ScalingPoint
from shared.runtime.outbox import Outbox
from shared.runtime.ports import Ports
from shared.runtime.replica import Replica
from shared.runtime.scaling import (
    Count,
    CronTrigger,
    Failed,
    KafkaTrigger,
    MongoTrigger,
    Positions,
    Reading,
    ScaledObject,
    Scaler,
    Trigger,
    WorkloadTrigger,
)

_LOG = logging.getLogger(__name__)
_POLL = timedelta(seconds=1)
_HISTORY = 2_000
"""Changes kept per function."""


class _Function:
    """One function: its scaler, its replicas, what became of them."""

    def __init__(self, slug: str, scaled: ScaledObject, created: datetime) -> None:
        self.slug = slug
        self.scaler = Scaler(scaled, created=created)
        self.replicas: list[Replica] = []
        self.history: deque[ScalingPoint] = deque(maxlen=_HISTORY)
        self.last_cold_start: timedelta | None = None
        self.looking = asyncio.Lock()
        self.topics = frozenset(
            trigger.topic for trigger in scaled.triggers if isinstance(trigger, KafkaTrigger)
        )


class Autoscaler:
    """Looks, decides, and starts or stops replicas in this process."""

    def __init__(self, scaled: Mapping[str, ScaledObject], ports: Ports) -> None:
        """Begin with every function at zero."""
        self._ports = ports
        self._clock: Clock = ports.clock
        self._log: EventLog = ports.log
        self._cluster: Cluster = ports.cluster
        self._outbox: Outbox = ports.outbox
        now = self._clock.now()
        self._functions = {slug: _Function(slug, one, now) for slug, one in scaled.items()}
        self._looks: set[asyncio.Task[None]] = set()
        self._polling: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._poked: set[str] = set()
        self._stopping = False

    def start(self) -> None:
        """Look now, and from now on: at each function by itself, no drain holds up another."""
        self._polling = [
            asyncio.create_task(self._poll(function), name=f"autoscaler of {slug}")
            for slug, function in self._functions.items()
        ]

    def poke(self, topics: "frozenset[str] | set[str]") -> None:
        """Look at sleeping functions for which there is a record now."""
        if self._stopping:
            return
        for function in self._functions.values():
            if function.replicas or function.slug in self._poked:
                continue
            if not function.topics.isdisjoint(topics):
                self._poked.add(function.slug)
                look = asyncio.create_task(self._poked_look(function))
                self._looks.add(look)
                look.add_done_callback(self._looks.discard)

    async def stop(self) -> None:
        """Put every function to zero; each finishes what it began."""
        self._stopping = True
        for task in self._polling:
            task.cancel()
        await asyncio.gather(*self._polling, return_exceptions=True)
        if self._looks:
            await asyncio.wait(self._looks)
        await asyncio.gather(
            *(self._apply(function, 0, "shutting down") for function in self._functions.values())
        )
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def kill(self) -> None:
        """Drop every replica at once, as the death of the process would."""
        self._stopping = True
        tasks = [*self._polling, *self._looks, *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for function in self._functions.values():
            for replica in function.replicas:
                await replica.kill()
            function.replicas.clear()

    async def functions(self) -> Sequence[FunctionState]:
        """Return the state of each function, by slug."""
        return [self._state(function) for function in self._functions.values()]

    def history(self, slug: str, *, since: datetime) -> Sequence[ScalingPoint]:
        """Return the changes of one function's replicas, oldest first."""
        function = self._functions.get(slug)
        return [p for p in function.history if p.at >= since] if function else []

    def _state(self, function: _Function) -> FunctionState:
        scaler = function.scaler
        decision = scaler.decision
        return FunctionState(
            slug=function.slug,
            replicas=len(function.replicas),
            min_replicas=scaler.scaled.min_replicas,
            max_replicas=scaler.scaled.max_replicas,
            lag=dict(scaler.lag),
            active=decision.active,
            last_active_at=scaler.last_active_at,
            sleeps_at=scaler.sleeps_at,
            reason=decision.reason,
            last_cold_start=function.last_cold_start,
        )

    async def _poll(self, function: _Function) -> None:
        while True:
            await self._look(function)
            await self._clock.sleep(_POLL)

    async def _poked_look(self, function: _Function) -> None:
        try:
            if not function.replicas:
                await self._look(function)
        finally:
            self._poked.discard(function.slug)

    async def _look(self, function: _Function) -> None:
        async with function.looking:
            try:
                await self._look_and_apply(function)
            except Exception:  # noqa: BLE001 - one function's fault must not stop its scaling
                _LOG.exception("the autoscaler could not look at %s", function.slug)

    async def _look_and_apply(self, function: _Function) -> None:
        readings = {
            trigger.name: reading
            for trigger in function.scaler.scaled.triggers
            if (reading := await self._read(trigger)) is not None
        }
        decision = function.scaler.observe(self._clock.now(), readings, pods=len(function.replicas))
        await self._apply(function, decision.replicas, decision.reason)

    async def _read(self, trigger: Trigger) -> Reading | None:
        try:
            match trigger:
                case KafkaTrigger():
                    positions = await self._log.positions(trigger.group, [trigger.topic])
                    return Positions(positions)
                case MongoTrigger() if trigger.watches_outbox:
                    return Count(await self._outbox.left_behind(trigger.collection))
                case MongoTrigger():
                    documents = self._ports.documents(trigger.collection)
                    where = trigger.filter_at(self._clock.now())
                    return Count(await documents.count(where, limit=trigger.threshold * 10))
                case WorkloadTrigger():
                    # Ended ones too: while one exists its end may not be told yet, after a crash of
                    # whoever watches, and nothing else would wake it.
                    return Count(len(await self._cluster.list()))
                case CronTrigger():
                    return None
        except TemporaryError as error:
            return Failed(str(error))

    async def _apply(self, function: _Function, wanted: int, reason: str) -> None:
        have = len(function.replicas)
        if wanted == have:
            return
        if wanted > have:
            began = self._clock.monotonic()
            for _ in range(wanted - have):
                function.replicas.append(Replica(function.slug, self._ports))
            if have == 0:
                cold = timedelta(seconds=self._clock.monotonic() - began)
                function.last_cold_start = cold
        else:
            leaving = function.replicas[wanted:]
            del function.replicas[wanted:]
            # As tasks of their own: whoever gives up waiting must not cut their drain short.
            stops = [asyncio.create_task(replica.stop()) for replica in leaving]
            self._leaving.update(stops)
            for stop in stops:
                stop.add_done_callback(self._leaving.discard)
            await asyncio.wait(stops)
        point = ScalingPoint(
            at=self._clock.now(),
            replicas=wanted,
            lag=sum(function.scaler.lag.values()),
            reason=reason,
        )
        function.history.append(point)
        _LOG.info(
            "%s %d -> %d: %s",
            function.slug,
            have,
            wanted,
            reason,
            extra={"function": function.slug, "replicas": wanted},
        )
