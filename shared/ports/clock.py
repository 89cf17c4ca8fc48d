"""What time it is, and waiting."""

from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for what is measured."""

    def now(self) -> datetime:
        """Return the current time in UTC, aware. May jump when the machine's clock is set."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long. A virtual clock returns when it was advanced past it."""
