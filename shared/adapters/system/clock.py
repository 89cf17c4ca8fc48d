"""The machine's clocks."""

import asyncio
import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """Time as this machine has it."""

    def now(self) -> datetime:
        """Return the current time in UTC, aware. May jump when the machine's clock is set."""
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long; at least one turn of the event loop."""
        end = time.monotonic() + duration.total_seconds()
        left = duration.total_seconds()
        while True:
            await asyncio.sleep(max(left, 0))  # noqa: TID251 - this is the Clock
            # An event loop that counts in milliseconds may wake us a fraction too early.
            left = end - time.monotonic()
            if left <= 0:
                return
