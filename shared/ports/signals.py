"""Quick signals between processes. Everything here may be forgotten at any moment."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol


class Subscription(Protocol):
    """A set of channels that one process listens to, over one connection."""

    async def add(self, channel: str) -> None:
        """Listen to one more channel; messages published after this returned are seen."""

    async def remove(self, channel: str) -> None:
        """Stop listening to a channel."""

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield `(channel, message)` as they come. Ends when closed; survives reconnects, lossy."""

    async def close(self) -> None:
        """End the iteration and free the connection."""


class Signals(Protocol):
    """Publish and subscribe, counters that expire, values set once.

    Nothing is promised to last: a wipe between any two calls is legal. All methods raise
    TemporaryError while the engine is away.
    """

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell whoever listens right now."""

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish several `(channel, message)` in this order, in one round trip."""

    def subscribe(self) -> Subscription:
        """Open a subscription without channels."""

    async def increment(self, key: str, *, expires: timedelta) -> int:
        """Count one up and return the count; the first one starts the expiry."""

    async def set_if_absent(self, key: str, value: bytes, *, expires: timedelta) -> bool:
        """Set a value unless there is one; say whether this call set it."""

    async def put(self, key: str, value: bytes, *, expires: timedelta) -> None:
        """Set a value."""

    async def get(self, key: str) -> bytes | None:
        """Return a value, or None."""

    async def take(self, key: str) -> bytes | None:
        """Return a value and remove it, atomically: of racing callers one gets it."""

    async def delete(self, key: str) -> None:
        """Remove a value; a missing one is success."""

    async def ping(self) -> None:
        """Return if the engine answers."""
