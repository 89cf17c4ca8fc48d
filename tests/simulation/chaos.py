"""Faults at every call of a port, and a monkey that kills, rewinds and cuts; all from one seed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared.domain.errors import TemporaryError
from shared.events.topics import Topic
from shared.ports.cluster import Cause
from shared.ports.event_log import NewRecord, TopicPartition
from shared.runtime.evidence import Fault
from tests.scenarios.system import MACHINE, Invoke, Process, System

_READS = frozenset({"get", "find", "count", "poll", "list", "positions", "read", "leftovers"})
_NEVER = frozenset({"close", "isolation", "flush"})
_BOUND = frozenset({"consumer.commit"})
"""What belongs to the member's share at the moment of the call: a broker refuses it later, so it
can only be answered late. Done late it would take back what another member has committed."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How likely each fault is, per call of a port."""

    pause: float = 0.25
    slow: float = 0.004
    refuse: float = 0.012
    lose: float = 0.012
    kill: float = 0.004


@dataclass(slots=True)
class Chaos:
    """Stands between the processes and their ports, and does harm while it is active."""

    seed: int
    rates: Rates = field(default_factory=Rates)
    active: bool = True
    trace: list[tuple[float, str, str, str]] = field(default_factory=list)
    """When, which process, which call, what was done to it; the calls that went well included."""
    _dice: dict[str, random.Random] = field(default_factory=dict)

    def dice(self, name: str) -> random.Random:
        """Return the generator of one place, so that a fault here changes no draw elsewhere."""
        if name not in self._dice:
            self._dice[name] = random.Random(f"{self.seed}:{name}")  # noqa: S311 - reproducible
        return self._dice[name]

    async def around(self, process: Process, operation: str, call: Invoke) -> Any:
        """Do the call, late, slowly, in vain, or as the last thing in this process's life."""
        method = operation.partition(".")[2]
        if not self.active or method in _NEVER:
            return await call()
        dice = self.dice(process.slug)
        if operation not in _BOUND and dice.random() < self.rates.pause:
            await process.system.clock.sleep(timedelta(seconds=dice.choice((0, 0, 0.001, 0.03))))
            process.ensure_alive()
        return await self._strike(process, operation, call, self._choose(dice, method))

    def _choose(self, dice: random.Random, method: str) -> str:
        draw = dice.random()
        for fault in ("slow", "refuse", "lose", "kill"):
            rate = getattr(self.rates, fault)
            if draw < rate:
                # What a poll returned cannot be lost on the way: it was never anywhere else.
                return "refuse" if fault == "lose" and method in _READS else fault
            draw -= rate
        return "none"

    async def _strike(self, process: Process, operation: str, call: Invoke, fault: str) -> Any:
        self.note(process, operation, fault)
        match fault:
            case "slow" if operation not in _BOUND:
                await process.system.clock.sleep(timedelta(seconds=5))
                process.ensure_alive()
            case "refuse":
                raise TemporaryError(f"{operation}: no answer", retry_after=timedelta(seconds=0.2))
            case "kill" if self.dice(process.slug).random() < 0.5:
                process.system.crash(process)
        process.ensure_alive()
        result = await call()
        if fault == "kill":
            process.system.crash(process)
            process.ensure_alive()
        if fault == "slow" and operation in _BOUND:
            await process.system.clock.sleep(timedelta(seconds=5))
            process.ensure_alive()
        if fault == "lose":
            raise TemporaryError(f"{operation}: answer lost", retry_after=timedelta(seconds=0.2))
        return result

    def note(self, process: Process, operation: str, what: str) -> None:
        """Write one line of the trace."""
        at = asyncio.get_running_loop().time()
        self.trace.append((round(at, 6), f"{process.slug}#{process.number}", operation, what))


class Monkey:
    """Does something bad to the whole system every other second."""

    def __init__(self, system: System, chaos: Chaos) -> None:
        """Choose what this run may suffer: each kind is on in about every other run."""
        self.system, self.chaos = system, chaos
        self.dice = chaos.dice("monkey")
        every: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.make_zombie,
            self.rewind,
            self.repeat,
            self.scale,
            self.cut_an_engine,
            self.strike_a_pod,
            self.cut_watches,
            self.kill_all,
            self.silence_watches,
            self.poison,
        ]
        self.deeds = [deed for deed in every if self.dice.random() < 0.5] or every

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.system.clock.sleep(timedelta(seconds=self.dice.uniform(0.2, 3)))
            deed = self.dice.choice(self.deeds)
            self.chaos.trace.append(
                (round(self.system.clock.monotonic(), 6), "monkey", deed.__name__, "")
            )
            await deed()

    def _victim(self) -> str:
        return self.dice.choice(self.system.slugs)

    async def kill(self) -> None:
        """Kill one process; it comes back a little later."""
        process = self.system.processes.get(self._victim())
        if process is not None:
            self.system.crash(process)

    async def kill_all(self) -> None:
        """Lose the whole machine."""
        for process in list(self.system.processes.values()):
            self.system.crash(process)

    async def make_zombie(self) -> None:
        """Take its partitions from a process that goes on for a while without knowing it."""
        slug = self._victim()
        zombie = self.system.processes.get(slug)
        if zombie is None:
            return
        zombie.leave()
        self.system.start(slug)
        await self.system.clock.sleep(timedelta(seconds=self.dice.uniform(0.1, 3)))
        zombie.kill()

    async def scale(self) -> None:
        """Run a second replica for a while, which moves partitions to it and back."""
        second = Process(self.system, self._victim())
        second.start()
        await self.system.clock.sleep(timedelta(seconds=self.dice.uniform(0.1, 3)))
        second.kill()

    async def rewind(self) -> None:
        """Let a group handle some of its records again."""
        slug = self._victim()
        process = self.system.processes.get(slug)
        if process is not None:
            self.system.crash(process)
        group = self.dice.choice(sorted(self.system.groups())) if slug == MACHINE else slug
        topics = self.system.groups().get(group)
        if not topics:
            return
        positions = await self.system.log.positions(group, topics)
        back = {
            place: max(position.start, position.committed - self.dice.randint(1, 8))
            for place, position in positions.items()
            if position.committed is not None
        }
        await self.system.log.commit(group, back)

    async def repeat(self) -> None:
        """Append some records a second time, as a producer that heard no answer does."""
        topic = self.dice.choice([topic for topic in Topic if topic is not Topic.DEAD_LETTERS])
        for place, position in sorted((await self.system.log.positions("", [topic])).items()):
            await self._repeat_some(place, position.start, position.end)

    async def _repeat_some(self, place: TopicPartition, start: int, end: int) -> None:
        if start == end:
            return
        offset = self.dice.randrange(start, end)
        records = await self.system.log.read(place, offset=offset, limit=self.dice.randint(1, 3))
        await self.system.log.append(
            [NewRecord(r.topic, r.key or b"", r.headers, r.value) for r in records]
        )

    async def cut_an_engine(self) -> None:
        """Let an engine answer nobody for some seconds."""
        documents = {*self.system.collections}
        away = self.dice.choice([{"log", "consumer"}, {"cluster"}, documents, {"signals"}])
        begun = self.system.clock.now()
        self.system.away |= away
        await self.system.clock.sleep(timedelta(seconds=self.dice.uniform(0.2, 6)))
        self.system.away -= away
        self.system.faults.append(Fault(min(away), begun, self.system.clock.now()))

    async def strike_a_pod(self) -> None:
        """End a pod from outside, or remove it."""
        pods = await self.system.cluster.list()
        if not pods:
            return
        name = self.dice.choice([pod.name for pod in pods])
        if self.dice.random() < 0.3:
            await self.system.cluster.vanish(name)
        else:
            await self.system.cluster.strike(
                name, self.dice.choice([Cause.EVICTED, Cause.NODE_LOST, Cause.OUT_OF_MEMORY])
            )

    async def cut_watches(self) -> None:
        """End every watch without a word."""
        self.system.cluster.end_watches()

    async def silence_watches(self) -> None:
        """Let every open watch go on without ever saying anything again."""
        self.system.cluster.silence_watches()

    async def poison(self) -> None:
        """Append what nobody understands, seldom: each piece is tried again for a long time."""
        if self.dice.random() < 0.8:
            return
        topic = self.dice.choice([topic for topic in Topic if topic is not Topic.DEAD_LETTERS])
        value = self.dice.choice((b"\xff", b"{}", b"", None))
        await self.system.log.append([NewRecord(topic, b"poison", (("x", b"y"),), value)])
