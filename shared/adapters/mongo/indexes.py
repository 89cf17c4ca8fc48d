"""The indexes that the collections are searched by: made where they are missing, never changed.

MongoDB builds an index beside the traffic, so this may run at any time, in any number of processes
at once. Nothing relies on documents that expire by an index: what is due is removed by whoever
knows why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure

from shared.adapters.mongo.errors import driver_errors
from shared.adapters.mongo.outbox import WAKE_AT
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.mongo.uniqueness import is_mark, mark_of
from shared.ports.documents import Collection, Index
from shared.ports.setup import Finding, State

_PATIENCE_SECONDS = 3600
"""How long a build may take; some millions of documents are a matter of minutes."""
_CONFLICTS = frozenset({85, 86})
"""IndexOptionsConflict, IndexKeySpecsConflict."""
_DESCRIPTION = frozenset({"key", "name", "v", "ns", "background"})
"""What is said of an index that changes no answer."""
_PRIMARY = "_id_"


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


async def apply_indexes(options: MongoOptions, collections: Iterable[Collection]) -> list[Finding]:
    """Make every index that is missing; say of each how it is. Changes and drops none.

    Raises:
        TemporaryError: No answer in time; those that were begun are finished nevertheless.
        StartupError: The options are not usable, or the server refuses us.
    """
    return await _look(options, collections, create=True)


async def drift(options: MongoOptions, collections: Iterable[Collection]) -> list[Finding]:
    """Say of each index how it is, and which are there that nobody wants; writes nothing.

    Raises:
        TemporaryError: No answer in time.
        StartupError: The options are not usable, or the server refuses us.
    """
    return await _look(options, collections, create=False)


async def _look(
    options: MongoOptions, collections: Iterable[Collection], *, create: bool
) -> list[Finding]:
    store = MongoStore(options)
    try:
        await store.ping()
        findings: list[Finding] = []
        for collection in collections:
            findings += await _look_at(store, collection, create=create)
    finally:
        await store.close()
    return findings


async def _look_at(store: MongoStore, collection: Collection, *, create: bool) -> list[Finding]:
    with driver_errors(f"{collection.name}: indexes"):
        found = await store.collection(collection.name).index_information()
        findings, known = [], {_PRIMARY}
        for wanted in _wanted(collection):
            name = _name_of(wanted, found)
            known.add(name or wanted.name)
            if name is None and create:
                findings.append(await _create(store, collection.name, wanted))
            else:
                findings.append(_compared(collection.name, name, wanted, found))
    return findings + [_stray(collection.name, name) for name in sorted(found.keys() - known)]


def _wanted(collection: Collection) -> list[_Wanted]:
    # Leftovers are looked for in every collection, whether or not it ever emits: sparse, the index
    # is empty there, and without it each look would read all documents.
    return [_as_wanted(index) for index in collection.indexes] + [
        _Wanted((WAKE_AT,), {"sparse": True})
    ]


def _as_wanted(index: Index) -> _Wanted:
    if not index.unique:
        return _Wanted(index.fields, {"sparse": True} if index.sparse else {})
    return _Wanted((*index.fields, mark_of(index)), {"unique": True, "sparse": True})


def _name_of(wanted: _Wanted, found: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what it is called here: somebody may have made the same index by hand."""
    for name, index in found.items():
        if [tuple(pair) for pair in index["key"]] == wanted.keys:
            return name
    return wanted.name if wanted.name in found else None


def _compared(
    collection: str, name: str | None, wanted: _Wanted, found: Mapping[str, Mapping[str, Any]]
) -> Finding:
    if name is None:
        remedy = "Run `integr8s indexes apply`."
        return _finding(collection, wanted.name, "differs", "is missing", remedy)
    index = found[name]
    has_same_keys = [tuple(pair) for pair in index["key"]] == wanted.keys
    options = {key: value for key, value in index.items() if key not in _DESCRIPTION}
    if has_same_keys and options == wanted.options:
        return _finding(collection, name, "same")
    return _other(collection, name)


def _other(collection: str, name: str) -> Finding:
    remedy = f'Drop it by db.{collection}.dropIndex("{name}"), then run `integr8s indexes apply`.'
    return _finding(
        collection, name, "differs", "is another one of that name or those keys", remedy
    )


def _stray(collection: str, name: str) -> Finding:
    remedy = f'It costs every write; if nobody needs it, db.{collection}.dropIndex("{name}").'
    return _finding(collection, name, "same", "is none of ours", remedy)


async def _create(store: MongoStore, collection: str, wanted: _Wanted) -> Finding:
    try:
        with pymongo.timeout(_PATIENCE_SECONDS):
            await store.collection(collection).create_index(
                wanted.keys, name=wanted.name, **wanted.options
            )
    except DuplicateKeyError:
        fields = ", ".join(field for field in wanted.fields if not is_mark(field))
        seen = f"cannot be made: two documents have the same {fields}"
        remedy = "Remove one of them, then run `integr8s indexes apply`."
        return _finding(collection, wanted.name, "differs", seen, remedy)
    except OperationFailure as error:
        if error.code not in _CONFLICTS:
            raise
        return _other(collection, wanted.name)  # another process made it meanwhile
    return _finding(collection, wanted.name, "made")


def _finding(collection: str, name: str, state: State, seen: str = "", remedy: str = "") -> Finding:
    return Finding(f"index {collection}.{name}", state, seen, remedy)
