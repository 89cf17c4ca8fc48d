"""What every Clock promises, and what the virtual one promises beyond."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop

from shared.adapters.system.clock import SystemClock
from shared.adapters.virtual.clock import VirtualClock
from shared.ports.clock import Clock

Through = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]

SHORT = timedelta(milliseconds=20)
HOUR = timedelta(hours=1)


def system() -> tuple[Clock, Through]:
    """Return the machine's clock, on which one simply waits."""

    async def through(work: Coroutine[Any, Any, None]) -> None:
        await work

    return SystemClock(), through


def virtual() -> tuple[Clock, Through]:
    """Return a clock that has to be advanced while somebody waits."""
    clock = VirtualClock()

    async def through(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        await clock.advance(HOUR)
        await task

    return clock, through


@pytest.fixture(params=[system, virtual], ids=["system", "virtual"])
def made(request: pytest.FixtureRequest) -> tuple[Clock, Through]:
    """Return one of the clocks, and how to get through work that sleeps on it."""
    make: Callable[[], tuple[Clock, Through]] = request.param
    return make()


class TestEveryClock:
    """The promises of the port."""

    async def test_now_is_aware_and_utc(self, made: tuple[Clock, Through]) -> None:
        """An instant means the same on every machine."""
        clock, _ = made

        assert clock.now().tzinfo is UTC

    async def test_sleep_lasts_at_least_as_long(self, made: tuple[Clock, Through]) -> None:
        """Nobody who slept is early, on either scale."""
        clock, through = made
        before, began = clock.monotonic(), clock.now()

        await through(clock.sleep(SHORT))

        assert clock.monotonic() - before >= SHORT.total_seconds()
        assert clock.now() - began >= SHORT

    async def test_sleepers_wake_in_order_of_their_instants(
        self, made: tuple[Clock, Through]
    ) -> None:
        """Who sleeps shorter wakes earlier, whoever lay down first."""
        clock, through = made
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            await clock.sleep(SHORT * number)
            woken.append(number)

        async def all_of_them() -> None:
            await asyncio.gather(sleeper(3), sleeper(1), sleeper(2))

        await through(all_of_them())

        assert woken == [1, 2, 3]

    @pytest.mark.parametrize("duration", [timedelta(0), timedelta(seconds=-1)])
    async def test_sleeping_no_time_lets_others_go_first(
        self, made: tuple[Clock, Through], duration: timedelta
    ) -> None:
        """It returns by itself, after one turn of the event loop."""
        clock, _ = made
        ran: list[str] = []
        asyncio.get_running_loop().call_soon(ran.append, "other")

        await clock.sleep(duration)

        assert ran == ["other"]

    async def test_sleeper_can_be_cancelled(self, made: tuple[Clock, Through]) -> None:
        """A cancelled sleeper is gone, and disturbs nobody afterwards."""
        clock, through = made
        sleeper = asyncio.create_task(clock.sleep(SHORT))
        await asyncio.sleep(0)  # noqa: TID251 - lets it lie down

        sleeper.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sleeper
        await through(clock.sleep(SHORT))


class TestVirtualClock:
    """A clock that stands still until somebody advances it."""

    async def test_stands_still(self) -> None:
        """Nobody wakes by waiting."""
        clock = VirtualClock(datetime(2026, 11, 21, tzinfo=UTC))
        sleeper = asyncio.create_task(clock.sleep(SHORT))

        await clock.settle()

        assert not sleeper.done()
        assert clock.now() == datetime(2026, 11, 21, tzinfo=UTC)
        sleeper.cancel()

    async def test_wakes_at_the_exact_instant(self) -> None:
        """A sleeper sees its own instant, however far the clock is advanced."""
        clock = VirtualClock()
        began = clock.now()
        seen: list[timedelta] = []

        async def every_ten_minutes() -> None:
            while True:
                await clock.sleep(timedelta(minutes=10))
                seen.append(clock.now() - began)

        task = asyncio.create_task(every_ten_minutes())
        await clock.advance(timedelta(minutes=35))

        assert seen == [timedelta(minutes=minutes) for minutes in (10, 20, 30)]
        assert clock.now() - began == timedelta(minutes=35)
        assert clock.monotonic() == timedelta(minutes=35).total_seconds()
        task.cancel()

    async def test_one_wakes_only_when_the_one_before_is_through(self) -> None:
        """What a sleeper sets off, over many turns of the loop, is done before the next wakes."""
        clock = VirtualClock()
        order: list[str] = []

        async def first() -> None:
            await clock.sleep(SHORT)
            for _ in range(100):
                await asyncio.create_task(asyncio.sleep(0))  # noqa: TID251 - many turns
            order.append("first")

        async def second() -> None:
            await clock.sleep(SHORT + timedelta(microseconds=1))
            order.append("second")

        tasks = asyncio.gather(first(), second())
        await clock.advance(HOUR)
        await tasks

        assert order == ["first", "second"]

    async def test_equal_instants_wake_in_order_of_their_calls(self) -> None:
        """Two runs of one scenario are equal."""
        clock = VirtualClock()
        woken: list[int] = []

        async def sleeper(number: int) -> None:
            await clock.sleep(SHORT)
            woken.append(number)

        tasks = asyncio.gather(*map(sleeper, range(10)))
        await clock.advance(SHORT)
        await tasks

        assert woken == list(range(10))

    async def test_run_until_stops_where_the_condition_holds(self) -> None:
        """No more time passes than was needed."""
        clock = VirtualClock()
        sleeper = asyncio.create_task(clock.sleep(SHORT))
        began = clock.now()

        assert await clock.run_until(sleeper.done, at_most=HOUR)

        assert clock.now() - began == SHORT

    async def test_run_until_says_when_it_never_held(self) -> None:
        """All of the time has passed then."""
        clock = VirtualClock()
        began = clock.now()

        assert not await clock.run_until(lambda: False, at_most=HOUR)

        assert clock.now() - began == HOUR

    async def test_next_waking(self) -> None:
        """The next instant at which anything can happen; the cancelled do not count."""
        clock = VirtualClock()
        sleepers = [asyncio.create_task(clock.sleep(SHORT * number)) for number in (1, 2)]
        await clock.settle()

        sleepers[0].cancel()
        await clock.settle()

        assert clock.next_waking == clock.now() + SHORT * 2
        await clock.advance(HOUR)
        assert clock.next_waking is None

    async def test_endless_work_does_not_hold_it_up(self) -> None:
        """A task that never waits for anything is left alone after a while."""
        clock = VirtualClock()

        async def busy() -> None:
            while True:  # noqa: ASYNC110 - that is the point
                await asyncio.sleep(0)  # noqa: TID251

        task = asyncio.create_task(busy())
        await clock.advance(SHORT)

        assert clock.monotonic() == SHORT.total_seconds()
        task.cancel()

    def test_on_an_event_loop_that_hides_its_queue(self) -> None:
        """On uvloop nobody sees what is ready, so a number of turns has to do."""

        async def scenario() -> list[float]:
            clock = VirtualClock()
            seen: list[float] = []

            async def sleeper() -> None:
                await clock.sleep(timedelta(seconds=1))
                await asyncio.create_task(clock.sleep(timedelta(seconds=1)))
                seen.append(clock.monotonic())

            task = asyncio.create_task(sleeper())
            await clock.advance(HOUR)
            await task
            return seen

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(scenario()) == [2.0]
