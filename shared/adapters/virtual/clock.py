"""A clock that stands still until somebody advances it."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_ROUNDS = 1000
"""Turns of the event loop after which work that never ends is left alone."""
_ROUNDS_UNSEEN = 50
"""Turns of an event loop that does not show its queue, as uvloop."""


class VirtualClock:
    """Time that passes only in `advance` and `run_until`; hours cost microseconds.

    Sleepers are woken one at a time, in the order of their instants and then of their calls, each
    at exactly its own instant. Between two of them the event loop is given turns until nobody has
    anything left to do but wait, so that what a sleeper does, and starts, happens at its instant.

    What a thread or a socket is busy with cannot be seen from here: a test of such code waits for
    the effect, then advances.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Stand at an instant."""
        self._start = start
        self._passed = timedelta(0)
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []
        self._calls = 0

    def now(self) -> datetime:
        """Return the instant at which the clock stands."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._passed.total_seconds()

    async def sleep(self, duration: timedelta) -> None:
        """Wait until the clock was advanced past this; nothing and less is one turn of the loop."""
        if duration <= timedelta(0):
            await asyncio.sleep(0)  # noqa: TID251 - this is a Clock
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls += 1
        heapq.heappush(self._sleepers, (self._passed + duration, self._calls, woken))
        await woken

    @property
    def next_waking(self) -> datetime | None:
        """Return the instant of the next sleeper, or None."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._start + self._sleepers[0][0] if self._sleepers else None

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, and whoever slept until then do what they do."""
        await self.run_until(_never, at_most=duration)

    async def run_until(self, condition: Callable[[], bool], *, at_most: timedelta) -> bool:
        """Let time pass from sleeper to sleeper until a condition holds; say whether it does.

        Where it does not, all of `at_most` has passed.
        """
        end = self._passed + at_most
        await self.settle()
        while not condition():
            waking = self.next_waking
            if waking is None or waking - self._start > end:
                self._passed = end
                await self.settle()
                return condition()
            self._passed, _, woken = heapq.heappop(self._sleepers)
            woken.set_result(None)
            await self.settle()
        return True

    async def settle(self) -> None:
        """Give the event loop turns until everybody waits."""
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        for _ in range(_ROUNDS_UNSEEN if ready is None else _ROUNDS):
            await asyncio.sleep(0)  # noqa: TID251 - this is a Clock
            if ready is not None and not ready:
                return


def _never() -> bool:
    return False
