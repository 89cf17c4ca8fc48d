"""What a suite needs of an engine besides the port that it tests."""

from datetime import timedelta
from typing import Protocol

from shared.ports.documents import Collection, Documents, Leftovers
from shared.ports.event_log import EventLog


class OutboxedDocuments(Documents, Leftovers, Protocol):
    """A collection together with its outboxes, as every adapter offers it."""


class DocumentsFactory(Protocol):
    """Opens collections of one engine; each factory starts empty."""

    async def __call__(self, collection: Collection) -> OutboxedDocuments:
        """Open a collection; twice the same one gives two views of the same documents."""

    async def kill(self) -> None:
        """Go on as after the sudden death of the process: later calls open what had survived."""

    async def close(self) -> None:
        """Free whatever was opened."""


class EventLogFactory(Protocol):
    """Opens one engine's log; each factory starts empty."""

    quiet: timedelta
    """After a silence of this length no more records are to be expected."""

    async def __call__(self) -> EventLog:
        """Open the log; twice gives two views of the same log."""

    async def kill(self) -> None:
        """Go on as after the sudden death of the process: later calls open what had survived."""

    async def close(self) -> None:
        """Free whatever was opened."""
