"""Engines are waited for at the start, and asked again for whoever probes."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.runtime.engine_checks import EngineChecks
from tests.virtual_time import LoopClock, run_virtually

AWAY = TemporaryError("no answer from 127.0.0.1:9")


class Engine:
    """Answers as a test wants it to."""

    def __init__(self, *, error: Exception | None = None, hangs: bool = False) -> None:
        self.error, self.hangs = error, hangs
        self.asked = 0
        self.is_asked = asyncio.Event()

    async def __call__(self) -> None:
        """Answer."""
        self.asked += 1
        self.is_asked.set()
        if self.hangs:
            await LoopClock().sleep(timedelta(hours=1))
        if self.error is not None:
            raise self.error


def checks_of(**engines: Engine) -> EngineChecks:
    """Return checks of some engines."""
    return EngineChecks(engines, LoopClock())


async def mended(engine: Engine, seconds: float) -> None:
    """Let an engine answer after a while."""
    await LoopClock().sleep(timedelta(seconds=seconds))
    engine.error = None


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """Return how many lines have a text in them."""
    return sum(text in line for line in caplog.messages)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on virtual time."""
    run_virtually(test)


def test_it_waits_until_every_engine_has_answered() -> None:
    """And goes on within a second of the last."""

    async def test() -> None:
        log, documents = Engine(error=AWAY), Engine()
        healing = asyncio.create_task(mended(log, 60))

        assert await checks_of(event_log=log, documents=documents).wait(asyncio.Event())

        await healing
        assert 60 <= LoopClock().monotonic() < 61
        assert documents.asked == 1

    run(test())


def test_it_says_every_few_seconds_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    """At once, and about every five seconds after; with the reason, for each engine."""

    async def test() -> None:
        log = Engine(error=AWAY)
        healing = asyncio.create_task(mended(log, 29))
        await checks_of(event_log=log, documents=Engine()).wait(asyncio.Event())
        await healing

    run(test())

    assert said(caplog, "waiting for the event log: no answer from 127.0.0.1:9") == 6
    assert said(caplog, "documents") == 0


@pytest.mark.parametrize(
    ("error", "told", "remedy"),
    [
        (PermanentError("who are you."), "The event log refuses this process: who are you.", "set"),
        (StartupError("Go away.", remedy="Come as another."), "Go away.", "Come as another."),
    ],
    ids=["refused", "says it all"],
)
def test_who_is_turned_away_does_not_wait(error: Exception, told: str, remedy: str) -> None:
    """One sentence and what helps, although another engine may come any moment."""

    async def test() -> None:
        checks = checks_of(event_log=Engine(error=error), documents=Engine(error=AWAY))
        with pytest.raises(StartupError) as refused:
            await checks.wait(asyncio.Event())
        await checks.close()
        assert refused.value.message == told
        assert remedy in refused.value.remedy

    run(test())


def test_a_missing_right_in_the_cluster_names_the_rights() -> None:
    """Settings would be the wrong place to look."""

    async def test() -> None:
        checks = checks_of(cluster=Engine(error=PermanentError("403 Forbidden")))
        with pytest.raises(StartupError, match=r"cluster refuses .* knative/10-accounts.yaml"):
            await checks.wait(asyncio.Event())

    run(test())


def test_who_is_asked_to_stop_does_not_wait() -> None:
    """Not even for the answer to the question that is open."""

    async def test() -> None:
        engine, leaving = Engine(hangs=True), asyncio.Event()
        checks = checks_of(documents=engine)
        waiting = asyncio.create_task(checks.wait(leaving))
        await engine.is_asked.wait()

        leaving.set()

        assert await waiting is False
        await checks.close()
        assert LoopClock().monotonic() < 0.1

    run(test())


def test_work_goes_on_without_signals(caplog: pytest.LogCaptureFixture) -> None:
    """They are asked on and on, and it is said when they answer."""

    async def test() -> None:
        signals = Engine(error=AWAY)
        checks = checks_of(documents=Engine(), signals=signals)

        assert await checks.wait(asyncio.Event())

        assert LoopClock().monotonic() < 1
        assert await checks.states() == {"documents": "ok", "signals": "degraded"}
        await mended(signals, 12)
        await LoopClock().sleep(timedelta(seconds=1))
        assert await checks.states() == {"documents": "ok", "signals": "ok"}
        await checks.close()

    run(test())

    assert said(caplog, "going on without the signals: no answer") == 3


def test_signals_that_refuse_later_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """The process runs already; whoever reads its log finds the remedy."""

    async def test() -> None:
        signals = Engine(error=AWAY)
        checks = checks_of(signals=signals)
        await checks.wait(asyncio.Event())
        signals.error = StartupError("Wrong password.", remedy="Correct it.")
        await LoopClock().sleep(timedelta(seconds=2))
        assert await checks.states() == {"signals": "degraded"}
        await checks.close()

    run(test())

    assert said(caplog, "Wrong password. Correct it.") == 1


def test_signals_that_refuse_at_once_end_the_start() -> None:
    """A wrong password is a mistake, not an outage."""

    async def test() -> None:
        wrong = StartupError("Wrong password.", remedy="Correct it.")
        with pytest.raises(StartupError, match="Wrong password"):
            await checks_of(signals=Engine(error=wrong)).wait(asyncio.Event())

    run(test())


def test_a_prober_is_answered_although_an_engine_hangs() -> None:
    """Within the second that some probers give."""

    async def test() -> None:
        checks = checks_of(event_log=Engine(hangs=True), documents=Engine())

        states = await checks.states()

        await checks.close()
        assert states == {"event_log": "down", "documents": "ok"}
        assert LoopClock().monotonic() < 1

    run(test())


def test_one_slow_answer_is_no_outage() -> None:
    """An engine that answered counts as there until it was silent for some seconds."""

    async def test() -> None:
        engine = Engine()
        checks = checks_of(documents=engine)
        await checks.states()
        engine.hangs = True
        seen = []
        for _ in range(6):
            await LoopClock().sleep(timedelta(seconds=1))
            seen.append((await checks.states())["documents"])
        await checks.close()
        assert seen == ["ok", "ok", "down", "down", "down", "down"]

    run(test())


def test_many_probers_are_one_question() -> None:
    """Knative asks many times a second until a process is ready."""

    async def test() -> None:
        engine = Engine()
        checks = checks_of(documents=engine)
        for _ in range(10):
            await asyncio.gather(*(checks.states() for _ in range(10)))
            await LoopClock().sleep(timedelta(milliseconds=100))
        assert engine.asked == 2

    run(test())


def test_an_engine_that_leaves_and_comes_back_is_told_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often somebody probes meanwhile."""
    caplog.set_level("INFO")

    async def test() -> None:
        engine = Engine()
        checks = checks_of(event_log=engine)
        seen = []
        for error in (None, AWAY, AWAY, AWAY, None, None):
            engine.error = error
            seen.append((await checks.states())["event_log"])
            await LoopClock().sleep(timedelta(seconds=1))
        assert seen == ["ok", "down", "down", "down", "ok", "ok"]

    run(test())

    assert caplog.messages == [
        "the event log does not answer any more: no answer from 127.0.0.1:9",
        "the event log answers",
    ]


def test_who_waits_again_asks_no_more_than_before(caplog: pytest.LogCaptureFixture) -> None:
    """As a process does that has to try something else once more."""

    async def test() -> None:
        checks = checks_of(signals=Engine(error=AWAY))
        for _ in range(3):
            await checks.wait(asyncio.Event())
        await LoopClock().sleep(timedelta(seconds=20))
        await checks.close()

    run(test())

    assert said(caplog, "going on without the signals") == 4
