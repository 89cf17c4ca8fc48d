"""One seeded run: a system under chaos, then healed, then judged."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from shared.adapters.scripted.cluster import Play, by_script
from shared.domain.execution_settings import ExecutionSettings
from shared.ports.cluster import Cause, Stream
from shared.runtime.evidence import Fault
from shared.runtime.invariants import Violation, check_all
from tests.scenarios.system import System
from tests.simulation.chaos import Chaos, Monkey, Rates
from tests.virtual_time import VirtualLoop

CHAOS = timedelta(seconds=12)
REST = 4000.0
"""Virtual seconds in which everything has to come to rest after healing."""
SETTINGS = ExecutionSettings(
    max_concurrent_executions=4,
    max_concurrent_per_user=2,
    queue_limit=timedelta(seconds=120),
)
EMBEDDED = 0.3
"""Share of the runs in which all functions live, and die, in one process, scaled from zero."""
_REPEAT = "python -m pytest tests/simulation/test_seeds.py -k invariant"
_SECONDS = timedelta(seconds=1)


@dataclass(slots=True)
class Report:
    """What came of one run."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    bugs: list[Exception] = field(default_factory=list)
    trace: list[tuple[float, str, str, str]] = field(default_factory=list)
    restless: str = ""
    executions: int = 0

    @property
    def is_good(self) -> bool:
        """Say whether every invariant held and everything came to rest."""
        return not (self.violations or self.bugs or self.restless)

    def __str__(self) -> str:
        faults = [line for line in self.trace if line[3] not in {"none", ""} or line[1] == "monkey"]
        lines = [
            f"seed {self.seed}: repeat it with",
            f"  INTEGR8S_SEED={self.seed} INTEGR8S_SEEDS=1 {_REPEAT}",
            *(str(violation) for violation in self.violations),
            *(f"bug: {error!r}" for error in self.bugs),
            *([self.restless] if self.restless else []),
            "faults:",
            *(f"  {at:9.3f} {who} {call} {what}" for at, who, call, what in faults[-40:]),
        ]
        return "\n".join(lines)


def _plays(dice: random.Random) -> dict[str, Play]:
    """Return what the scripts of this run do."""
    out: tuple[Stream, bytes] = ("stdout", b"out\n")
    err: tuple[Stream, bytes] = ("stderr", b"err\n")
    return {
        "quick": Play(),
        "chatty": Play(prints=(out, err) * dice.randint(1, 5), running=_SECONDS),
        "long": Play(running=dice.uniform(2, 8) * _SECONDS, prints=(out,) * 3),
        "endless": Play(running=timedelta(hours=1), prints=(out,)),
        "failing": Play(exit_code=1),
        "crashing": Play(cause=Cause.SIGNAL, signal=11, exit_code=None),
        "hungry": Play(cause=Cause.OUT_OF_MEMORY, exit_code=None),
        "no image": Play(cause=Cause.IMAGE_PULL, starts=False),
        "refused": Play(refused=True),
        "slow start": Play(starting=dice.uniform(1, 20) * _SECONDS),
        "slow create": Play(creating=dice.uniform(0.5, 20) * _SECONDS),
        "lost answer": Play(answer_lost=dice.randint(1, 3)),
        "stubborn": Play(running=20 * _SECONDS, ignores_term=True, prints=(out,) * 4),
    }


class Clients:
    """Submit, cancel and read, in an order that the seed gives."""

    def __init__(self, system: System, dice: random.Random, scripts: list[str]) -> None:
        """Choose among some scripts."""
        self.system, self.dice, self.scripts = system, dice, scripts
        self.known: list[tuple[str, str]] = []

    async def run(self) -> None:
        """Go on for as long as the chaos does."""
        for _ in range(self.dice.randint(6, 12)):
            await self._submit()
            await self._pause()
            if self.known and self.dice.random() < 0.35:
                await self._cancel()
            if self.known and self.dice.random() < 0.35:
                execution_id, user = self.dice.choice(self.known)
                await self.system.read(execution_id, user=self.dice.choice([user, "stranger"]))

    async def _pause(self) -> None:
        await self.system.clock.sleep(timedelta(seconds=self.dice.choice((0, 0, 0.2, 1, 1.5))))

    async def _submit(self) -> None:
        user = self.dice.choice(("anna", "bert"))
        key = self.dice.choice((None, None, "k1", "k2"))
        # One key belongs to one request, but for clients that make a mistake.
        script = (
            self.dice.choice(self.scripts) if key is None else self.scripts[len(key + user) % 4]
        )
        for _ in range(self.dice.choice((1, 1, 2))):
            call = await self.system.submit(script, user=user, key=key, timeout=10)
            if call.execution_id is not None:
                self.known.append((call.execution_id, user))

    async def _cancel(self) -> None:
        execution_id, user = self.dice.choice(self.known)
        await self.system.cancel(execution_id, user=user, reason="changed my mind")


async def _simulate(seed: int, rates: Rates, prepare: Callable[[System], None]) -> Report:
    chaos = Chaos(seed, rates)
    dice = chaos.dice("world")
    plays = _plays(dice)
    system = System(
        settings=SETTINGS,
        policy=by_script(plays),
        interference=chaos,
        chance=chaos.dice("restarts"),
        embedded=dice.random() < EMBEDDED,
    )
    prepare(system)
    system.start()
    scripts = dice.sample(sorted(plays), 7)
    begun = system.clock.now()
    report = Report(seed)
    try:
        await _chaos(system, chaos, Clients(system, chaos.dice("clients"), scripts))
        system.faults.append(Fault("chaos", begun, system.clock.now()))
        await _rest(system, report)
        evidence = await system.evidence(quiet=not report.restless)
        report.violations = check_all(evidence)
        report.executions = len(evidence.executions())
    finally:
        report.bugs, report.trace = system.bugs, chaos.trace
        await system.stop()
    return report


async def _chaos(system: System, chaos: Chaos, clients: Clients) -> None:
    monkey = asyncio.create_task(Monkey(system, chaos).run())
    users = asyncio.create_task(clients.run())
    await system.clock.sleep(CHAOS)
    chaos.active = False
    for task in (monkey, users):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    system.heal()


async def _rest(system: System, report: Report) -> None:
    try:
        await system.until_quiet(within=REST)
    except AssertionError as error:
        report.restless = str(error)


def simulate(
    seed: int, rates: Rates | None = None, prepare: Callable[[System], None] = lambda _: None
) -> Report:
    """Run one seed from beginning to end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_simulate(seed, rates or Rates(), prepare))
