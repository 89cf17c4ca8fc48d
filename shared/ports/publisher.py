"""Saying events that go with no change of a document."""

from collections.abc import Sequence
from typing import Protocol

from shared.events.event import Event


class Publisher(Protocol):
    """Append events to their topics."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once all are acknowledged, in this order per key.

        Raises:
            TemporaryError: No acknowledgement; some may have been appended.
        """


class Outboxes(Protocol):
    """Events that a crash left behind in their documents."""

    async def sweep(self) -> int:
        """Publish what was written a while ago and never published; return how many events."""
