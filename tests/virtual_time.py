"""An event loop whose time is free: where every task waits, it jumps to the next wake-up.

Whatever waits on the loop (timeouts, delayed calls, the clock below) waits in virtual time, so an
hour takes as long as what happens in it, and the same program runs the same way every time.
"""

import asyncio
import itertools
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

EPOCH = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits for another one, and no time will change that."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits by moving the loop's time; nothing is ever read from a socket here."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump over the wait."""
        if timeout is None:
            raise Deadlock("nothing is scheduled, so nothing will ever happen")
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        self._virtual_now = 0.0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        # Rounded up to the clock's grain, so that what was due is due.
        self._virtual_now += max(seconds, 0.0) + (1e-9 if seconds > 0 else 0.0)


class LoopClock:
    """The Clock port on the time of the running loop; `offset` makes one that is wrong."""

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        self.offset = offset

    def now(self) -> datetime:
        """Return the virtual wall time."""
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time()) + self.offset

    def monotonic(self) -> float:
        """Return the virtual seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, duration: timedelta) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(max(duration.total_seconds(), 0.0))  # noqa: TID251 - this is the clock


class CountedIds:
    """The Ids port: uuid7s from virtual time and a counter, the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """Return the next id."""
        milliseconds = int(LoopClock().now().timestamp() * 1000)
        number = next(self._numbers)
        text = f"{milliseconds:012x}7{number >> 62 & 0xFFF:03x}8{number & (1 << 60) - 1:015x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


__all__ = ["EPOCH", "CountedIds", "Deadlock", "LoopClock", "VirtualLoop", "run_virtually"]
