"""Whether the engines of a process answer: for its start, which waits for them, and for probes.

An engine is asked by one question at a time, however many want to know, and nobody waits longer for
an answer than a prober would: an engine that hangs is as good as one that is gone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.clock import Clock

_LOG = logging.getLogger(__name__)
_PATIENCE = timedelta(milliseconds=800)
"""How long a prober waits; some give up after a second."""
_SILENCE = timedelta(seconds=3)
"""How long an engine that answered may be silent before it counts as away."""
_FRESH = timedelta(milliseconds=500)
"""How long an answer is passed on without asking again: some probe many times a second."""
_SAY_EVERY = timedelta(seconds=5)
_LOOK_EVERY = timedelta(milliseconds=500)
_SPARED = frozenset({"signals"})
"""Engines that a process does its work without, only worse."""
_SETTINGS_REMEDY = "Correct the settings; `integr8s settings-help` lists every one."
_REMEDIES: Mapping[str, str] = {
    "cluster": "Give this process's account the rights that knative/10-accounts.yaml lists.",
}

Check = Callable[[], Awaitable[object]]
"""Returns if an engine answers; raises TemporaryError, PermanentError or StartupError if not."""


class EngineChecks:
    """The engines of one process, each with the question that it is asked."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock) -> None:
        """Ask nothing yet."""
        self._clock = clock
        self._engines = {name: _Engine(name, check, clock) for name, check in checks.items()}
        self._asking_on: asyncio.Task[None] | None = None
        self._said_at = float("-inf")

    async def states(self) -> Mapping[str, str]:
        """Return how each engine is: ok, degraded or down."""
        found = await asyncio.gather(*(engine.state() for engine in self._engines.values()))
        return dict(zip(self._engines, found, strict=True))

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Return once every engine has answered; False if this process is asked to stop first.

        Says every few seconds what it waits for. Engines that work goes on without are not waited
        for, but asked until they answer, in the background.

        Raises:
            StartupError: An engine answered, and will never serve this process.
        """
        looking = asyncio.create_task(self._start())
        stopping = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
            return not leaving.is_set()
        finally:
            for task in (looking, stopping):
                task.cancel()
            await asyncio.wait({looking, stopping})

    async def close(self) -> None:
        """Give up every question that is still open."""
        await self._ask_no_more()
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))

    async def _ask_no_more(self) -> None:
        if self._asking_on is not None:
            self._asking_on.cancel()
            await asyncio.wait({self._asking_on})

    async def _start(self) -> None:
        await self._ask_no_more()
        names = frozenset(self._engines)
        away = await self._look(names, needed=names - _SPARED)
        if away:
            self._asking_on = asyncio.create_task(self._look_on(away))

    async def _look(self, names: frozenset[str], *, needed: frozenset[str]) -> frozenset[str]:
        """Ask until nothing is away that is needed; return what still is.

        Raises:
            StartupError: One of them will never serve this process.
        """
        while True:
            away = await self._away(names)
            if away and self._clock.monotonic() - self._said_at >= _SAY_EVERY.total_seconds():
                self._said_at = self._clock.monotonic()
                _say(away)
            names = frozenset(away)
            if not names & needed:
                return names
            await self._clock.sleep(_LOOK_EVERY)

    async def _away(self, names: frozenset[str]) -> Mapping[str, str]:
        """Ask engines; return why each one that does not answer does not."""
        asked = sorted(names)
        reasons = await asyncio.gather(*(self._engines[name].reason() for name in asked))
        return {name: why for name, why in zip(asked, reasons, strict=True) if why}

    async def _look_on(self, names: frozenset[str]) -> None:
        try:
            await self._look(names, needed=names)
        except StartupError as error:
            _LOG.error("%s", error)


def _say(away: Mapping[str, str]) -> None:
    for name, why in away.items():
        doing = "going on without" if name in _SPARED else "waiting for"
        _LOG.warning("%s the %s: %s", doing, _spoken(name), why)


class _Engine:
    """One engine, the question to it, and what it answered last."""

    def __init__(self, name: str, check: Check, clock: Clock) -> None:
        self._name, self._check, self._clock = name, check, clock
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = self._answered_at = float("-inf")
        self._last: str | None = None
        """Why it did not answer, empty if it did; None before the first answer."""

    async def reason(self) -> str:
        """Return why it does not answer; empty where it does.

        Raises:
            StartupError: It answers, and will never serve this process.
        """
        return await asyncio.shield(self._question())

    async def state(self) -> str:
        """Return how it is, soon, by the last answer if the next one is not there yet."""
        if self._clock.monotonic() - self._answered_at >= _FRESH.total_seconds():
            question = self._question()
            await asyncio.wait({question}, timeout=_PATIENCE.total_seconds())
        silent = self._asking is not None and not self._asking.done()
        waited = self._clock.monotonic() - self._asked_at
        if self._last == "" and not (silent and waited > _SILENCE.total_seconds()):
            return "ok"
        return "degraded" if self._name in _SPARED else "down"

    async def close(self) -> None:
        """Give up the question that is open."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartupError):
                await self._asking

    def _question(self) -> "asyncio.Task[str]":
        if self._asking is None or self._asking.done():
            self._asked_at = self._clock.monotonic()
            self._asking = asyncio.create_task(self._ask(), name=f"question to the {self._name}")
            self._asking.add_done_callback(_retrieve)
        return self._asking

    async def _ask(self) -> str:
        try:
            await self._check()
        except TemporaryError as error:
            return self._note(str(error))
        except StartupError as error:
            self._note(error.message)
            raise
        except PermanentError as error:
            refused = self._refused(error)
            self._note(refused.message)
            raise refused from error
        return self._note("")

    def _refused(self, error: PermanentError) -> StartupError:
        message = f"The {_spoken(self._name)} refuses this process: {str(error).rstrip('.')}."
        return StartupError(message, remedy=_REMEDIES.get(self._name, _SETTINGS_REMEDY))

    def _note(self, why: str) -> str:
        """Keep and return an answer; tell of an engine that left, and of one that came back."""
        self._answered_at = self._clock.monotonic()
        before, self._last = self._last, why
        if before == "" and why:
            _LOG.warning("the %s does not answer any more: %s", _spoken(self._name), why)
        elif before and not why:
            _LOG.info("the %s answers", _spoken(self._name))
        return why


def _retrieve(question: "asyncio.Task[str]") -> None:
    """Look at how a question ended: nobody may be left who asked it."""
    error = None if question.cancelled() else question.exception()
    if error is not None and not isinstance(error, StartupError):
        _LOG.error("a question to an engine has a bug", exc_info=error)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
