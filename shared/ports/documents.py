"""Keyed documents that change one at a time, atomically."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.events.event import Event

Document = dict[str, Any]
"""A document: string keys without dots; values None, bool, int, float, str, bytes, datetime, and
lists and objects of them.

Times are aware UTC, kept to the millisecond. Every document has `version`, an int that each change
raises by one, and may have `outbox`, which only the runtime reads.
"""

Filter = Mapping[str, Any]
"""The subset of MongoDB's filters that every adapter keeps.

`{"field": value}` (equal; None also matches a missing field; dotted paths reach into objects), and
per field `$eq $ne $in $nin $lt $lte $gt $gte $exists`; at the top `$and` and `$or` with a list of
filters. Comparisons only hold between values of one type: a number never compares with a text.
A list matches where it equals the value, or one of its items does.
"""

Sort = Sequence[tuple[str, int]]
"""Fields with 1 (ascending) or -1; missing values sort first when ascending."""


class Documents(Protocol):
    """One collection of keyed documents, each changed atomically and alone.

    Promised: of racing changes exactly one wins per condition, a reader that follows a finished
    call sees it, and what was answered survives the death of this process. Not promised: that two
    documents are ever seen changed together, or that an answer survives loss of power before
    `flush` returned.
    """

    async def get(self, key: str) -> Document | None:
        """Return the document, or None.

        Raises:
            TemporaryError: No answer in time.
        """

    async def insert(
        self, key: str, document: Mapping[str, Any], *, emit: Sequence[Event] = ()
    ) -> Document:
        """Store a new document with `version` 1 and the events that tell of it, in one write.

        Raises:
            AlreadyExists: The key, or a unique index, is taken; nothing was written.
            TemporaryError: No answer in time; it may or may not have happened.
        """

    async def insert_all(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Store new documents, each by itself, in this order; return how many were stored.

        It ends early at the first whose key, or unique index, is taken; none after that is stored.

        Raises:
            TemporaryError: No answer in time; any number of the first ones may be stored.
        """

    async def change(
        self,
        key: str,
        *,
        when: Filter | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - MongoDB's own word
        unset: Sequence[str] = (),
        emit: Sequence[Event] = (),
    ) -> Document | None:
        """Change the document if it matches `when`; append `emit` to its outbox in the same write.

        `set` and `unset` take dotted paths. Returns the changed document, or None where it is
        missing or does not match: somebody else was first, which is no error.

        Raises:
            AlreadyExists: A unique index is taken; nothing was written.
            TemporaryError: No answer in time; it may or may not have happened.
        """

    async def delete(self, key: str, *, when: Filter | None = None) -> bool:
        """Remove the document if it matches; say whether there was one.

        Raises:
            TemporaryError: No answer in time; it may or may not have happened.
        """

    async def find(
        self,
        where: Filter | None = None,
        *,
        sort: Sort = (),
        skip: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """Return matching documents; each has its key under `_id`.

        Raises:
            TemporaryError: No answer in time.
        """

    async def count(self, where: Filter | None = None, *, limit: int | None = None) -> int:
        """Count matching documents, stopping at `limit` where one is given.

        Raises:
            TemporaryError: No answer in time.
        """

    async def flush(self) -> None:
        """Return once everything answered so far survives loss of power too.

        Raises:
            TemporaryError: The disk gave no answer.
        """


class Leftovers(Protocol):
    """The outboxes of one collection, for the runtime alone."""

    async def leftovers(
        self, *, before: datetime, limit: int
    ) -> Sequence[tuple[str, Sequence[Event]]]:
        """Return keys and undelivered events of documents last written before an instant."""

    async def waiting(self, key: str) -> Sequence[Event]:
        """Return the undelivered events of one document, in the order of their writes."""

    async def clear(self, sent: Mapping[str, Sequence[str]]) -> None:
        """Take events (document key -> event ids) off their outboxes; unknown ones are ignored."""


@dataclass(frozen=True, slots=True)
class Index:
    """Fields that a collection is searched by; a `unique` one counts only present ones."""

    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False
    """Whether it holds only documents that have the first field: those may be few among many."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection by its name, and its indexes."""

    name: str
    indexes: tuple[Index, ...] = ()
