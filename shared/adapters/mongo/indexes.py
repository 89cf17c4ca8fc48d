"""The indexes that the collections are searched by: made where they are missing, never changed.

MongoDB builds an index beside the traffic, so this may run at any time, in any number of processes
at once. Nothing relies on documents that expire by an index: what is due is removed by whoever
knows why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure

from shared.adapters.mongo.errors import driver_errors
from shared.adapters.mongo.outbox import WAKE_AT
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.mongo.uniqueness import is_mark, mark_of
from shared.ports.documents import Collection, Index

_PATIENCE_SECONDS = 3600
"""How long a build may take; some millions of documents are a matter of minutes."""
_CONFLICTS = frozenset({85, 86})
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_DESCRIPTION = frozenset({"key", "name", "v", "ns", "background"})
"""What is said of an index that changes no answer."""
_PRIMARY = "_id_"


class IndexState(StrEnum):
    """How an index is found, or left."""

    SAME = "same"
    CREATED = "created"
    MISSING = "missing"
    DIFFERENT = "different"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class IndexFinding:
    """One index: how it is, and what somebody should do about it."""

    collection: str
    index: str
    state: IndexState
    remedy: str = ""

    @property
    def is_fine(self) -> bool:
        """Say whether nobody need do anything."""
        return self.state in (IndexState.SAME, IndexState.CREATED)

    def __str__(self) -> str:
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.collection}.{self.index} {self.state}{remedy}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An index as it should be."""

    fields: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the name that the driver would give it too."""
        return "_".join(f"{field}_1" for field in self.fields)

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Return the fields as the driver wants them."""
        return [(field, 1) for field in self.fields]


async def apply_indexes(
    options: MongoOptions, collections: Iterable[Collection]
) -> list[IndexFinding]:
    """Make every index that is missing; say of each how it is. Changes and drops none.

    Raises:
        TemporaryError: No answer in time; those that were begun are finished nevertheless.
        StartupError: The options are not usable.
    """
    return await _look(options, collections, create=True)


async def drift(options: MongoOptions, collections: Iterable[Collection]) -> list[IndexFinding]:
    """Say of each index how it is, and which are there that nobody wants; writes nothing.

    Raises:
        TemporaryError: No answer in time.
        StartupError: The options are not usable.
    """
    return await _look(options, collections, create=False)


async def _look(
    options: MongoOptions, collections: Iterable[Collection], *, create: bool
) -> list[IndexFinding]:
    store = MongoStore(options)
    try:
        findings: list[IndexFinding] = []
        for collection in collections:
            findings += await _look_at(store, collection, create=create)
    finally:
        await store.close()
    return findings


async def _look_at(
    store: MongoStore, collection: Collection, *, create: bool
) -> list[IndexFinding]:
    with driver_errors(f"{collection.name}: indexes"):
        found = await store.collection(collection.name).index_information()
        findings = []
        for wanted in _wanted(collection):
            finding = _compared(collection.name, wanted, found)
            if create and finding.state is IndexState.MISSING:
                finding = await _create(store, collection.name, wanted)
            findings.append(finding)
    known = {finding.index for finding in findings} | {_PRIMARY}
    return findings + [_unknown(collection.name, name) for name in sorted(found.keys() - known)]


def _wanted(collection: Collection) -> list[_Wanted]:
    # Leftovers are looked for in every collection, whether or not it ever emits: sparse, the index
    # is empty there, and without it each look would read all documents.
    return [_as_wanted(index) for index in collection.indexes] + [
        _Wanted((WAKE_AT,), {"sparse": True})
    ]


def _as_wanted(index: Index) -> _Wanted:
    if not index.unique:
        return _Wanted(index.fields, {})
    return _Wanted((*index.fields, mark_of(index)), {"unique": True, "sparse": True})


def _compared(
    collection: str, wanted: _Wanted, found: Mapping[str, Mapping[str, Any]]
) -> IndexFinding:
    """Compare by fields, not by name: somebody may have made the same index by hand."""
    for name, index in found.items():
        if [tuple(pair) for pair in index["key"]] == wanted.keys:
            options = {k: v for k, v in index.items() if k not in _DESCRIPTION}
            if options == wanted.options:
                return IndexFinding(collection, name, IndexState.SAME)
            return _different(collection, name)
    if wanted.name in found:
        return _different(collection, wanted.name)
    remedy = "it is made when integr8s starts, or with the right to create indexes"
    return IndexFinding(collection, wanted.name, IndexState.MISSING, remedy)


def _different(collection: str, name: str) -> IndexFinding:
    remedy = f'has other options; db.{collection}.dropIndex("{name}"), and it is made anew'
    return IndexFinding(collection, name, IndexState.DIFFERENT, remedy)


def _unknown(collection: str, name: str) -> IndexFinding:
    remedy = f'costs every write; if nobody needs it, db.{collection}.dropIndex("{name}")'
    return IndexFinding(collection, name, IndexState.UNKNOWN, remedy)


async def _create(store: MongoStore, collection: str, wanted: _Wanted) -> IndexFinding:
    try:
        with pymongo.timeout(_PATIENCE_SECONDS):
            await store.collection(collection).create_index(
                wanted.keys, name=wanted.name, **wanted.options
            )
    except DuplicateKeyError:
        fields = ", ".join(field for field in wanted.fields if not is_mark(field))
        remedy = f"two documents have the same {fields}; remove one of them and start again"
        return IndexFinding(collection, wanted.name, IndexState.REFUSED, remedy)
    except OperationFailure as error:
        if error.code not in _CONFLICTS:
            raise
        return _different(collection, wanted.name)  # another process made it meanwhile
    return IndexFinding(collection, wanted.name, IndexState.CREATED)
