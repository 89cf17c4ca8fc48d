"""Fresh identifiers."""

from typing import Protocol


class Ids(Protocol):
    """Where an id comes from that does not follow from another."""

    def new(self) -> str:
        """Return a fresh uuid7: unique, and later ones sort after earlier ones, by milliseconds."""
