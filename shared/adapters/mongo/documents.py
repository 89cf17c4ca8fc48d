"""Documents in MongoDB: every call one command, every change atomic by being one document's.

No transaction and no session is used, so a single server will do as well as a replica set. Where
the driver knows that a write may be sent again without being done twice, it does so once; every
other write without an answer is the caller's to judge.

Where MongoDB's own rules reach further than the port promises: a dotted path also enters the
objects of a list, bytes are ordered by their length first, and objects are equal only with their
keys in the same order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from shared.adapters.mongo.errors import stored_before
from shared.adapters.mongo.filters import both, query_of
from shared.adapters.mongo.outbox import (
    OUTBOX,
    WAKE_AFTER,
    WAKE_AT,
    clearings,
    entries_of,
    events_in,
    partial_clearings,
)
from shared.adapters.mongo.store import READ_CONCERN, MongoStore
from shared.adapters.mongo.uniqueness import INCOMPLETE, Uniqueness
from shared.adapters.mongo.values import pack, refuse_dots, unpack
from shared.domain.errors import TemporaryError
from shared.events.event import Event
from shared.ports.clock import Clock
from shared.ports.documents import Collection, Document, Filter, Sort

_OURS = (OUTBOX, WAKE_AT, INCOMPLETE)
_SEEN = dict.fromkeys(_OURS, 0)
"""What a reader is given: everything but what is ours."""
_PAGE = 1000


class MongoDocuments:
    """One collection."""

    emits_directly = False
    """What is emitted waits in the document: the log is another system."""

    def __init__(self, store: MongoStore, collection: Collection, clock: Clock) -> None:
        """Use a collection; its indexes are made by `apply_indexes`."""
        self.name = collection.name
        self._store = store
        self._collection = store.collection(collection.name)
        self._uniqueness = Uniqueness(collection)
        self._clock = clock

    async def get(self, key: str) -> Document | None:
        """Return the document, or None."""
        async with self._store.asked(f"{self.name}: get {key}"):
            return await self._collection.find_one({"_id": key}, _SEEN)

    async def insert(
        self, key: str, document: Mapping[str, Any], *, emit: Sequence[Event] = ()
    ) -> Document:
        """Store a new document with its events; AlreadyExists where a unique key is taken."""
        fresh = self._fresh(key, document)
        if emit:
            fresh |= {OUTBOX: entries_of(emit), WAKE_AT: self._clock.now() + WAKE_AFTER}
        packed = pack(fresh)
        async with self._store.asked(f"{self.name}: insert {key}"):
            await self._collection.insert_one(packed)
        stored = unpack(packed)
        for field in _OURS:
            stored.pop(field, None)
        return stored

    async def insert_all(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Store new documents up to the first whose key is taken; return how many were stored."""
        packed = [pack(self._fresh(key, document)) for key, document in documents]
        if not packed:
            return 0
        async with self._store.asked(f"{self.name}: insert {len(packed)}"):
            try:
                await self._collection.insert_many(packed)
            except BulkWriteError as error:
                stored = stored_before(error)
                if stored is None:
                    raise
                return stored
        return len(packed)

    async def change(
        self,
        key: str,
        *,
        when: Filter | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - MongoDB's own word
        unset: Sequence[str] = (),
        emit: Sequence[Event] = (),
    ) -> Document | None:
        """Change the document if it matches, together with its events."""
        changes = set or {}
        for value in changes.values():
            refuse_dots(value)
        query = both({"_id": key}, query_of(when))
        if self._uniqueness.is_touched([*changes, *unset]):
            return await self._change_of_unique(key, query, changes, unset, emit)
        return await self._update(key, query, changes, unset, emit)

    async def _update(
        self,
        key: str,
        query: Mapping[str, Any],
        changes: Mapping[str, Any],
        unset: Sequence[str],
        emit: Sequence[Event],
    ) -> Document | None:
        update: dict[str, Any] = {"$inc": {"version": 1}}
        if emit:
            update["$push"] = {OUTBOX: {"$each": entries_of(emit)}}
            changes = {**changes, WAKE_AT: self._clock.now() + WAKE_AFTER}
        if changes:
            update["$set"] = changes
        if unset:
            update["$unset"] = dict.fromkeys(unset, "")
        async with self._store.asked(f"{self.name}: change {key}"):
            return await self._collection.find_one_and_update(
                query, update, projection=_SEEN, return_document=ReturnDocument.AFTER
            )

    async def _change_of_unique(
        self,
        key: str,
        query: Mapping[str, Any],
        changes: Mapping[str, Any],
        unset: Sequence[str],
        emit: Sequence[Event],
    ) -> Document | None:
        """Change fields of a unique index, of which the document may have a part, or all.

        Which ones it will have decides its marks. So it is looked at first, and changed only while
        that is still so.
        """
        fields = dict.fromkeys(self._uniqueness.fields, 1)
        while True:
            async with self._store.asked(f"{self.name}: change {key}"):
                seen = await self._collection.find_one(query, fields)
            if seen is None:
                return None
            still, marked, unmarked = self._uniqueness.remarked(key, seen, changes, unset)
            changed = await self._update(
                key, both(query, still), {**changes, **marked}, [*unset, *unmarked], emit
            )
            if changed is not None:
                return changed

    async def delete(self, key: str, *, when: Filter | None = None) -> bool:
        """Remove the document if it matches; say whether there was one.

        Raises:
            TemporaryError: No answer in time, or events of it are not published yet.
        """
        query = both({"_id": key}, query_of(when))
        async with self._store.asked(f"{self.name}: delete {key}"):
            done = await self._collection.delete_one(both(query, {WAKE_AT: {"$exists": False}}))
            if done.deleted_count:
                return True
            waiting = both(query, {WAKE_AT: {"$exists": True}})
            if await self._collection.find_one(waiting, {"_id": 1}) is None:
                return False
        # It would take them along, and nobody would ever hear of what happened.
        raise TemporaryError(f"{self.name}: {key} goes once its events are published")

    async def find(
        self,
        where: Filter | None = None,
        *,
        sort: Sort = (),
        skip: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """Return matching documents, each with its key under `_id`."""
        if limit == 0:
            return []  # to MongoDB that means all
        async with self._store.asked(f"{self.name}: find"):
            cursor = self._collection.find(
                query_of(where),
                _SEEN,
                skip=skip,
                limit=limit or 0,
                sort=list(sort) or None,
                batch_size=limit or _PAGE,
            )
            return await cursor.to_list()

    async def count(self, where: Filter | None = None, *, limit: int | None = None) -> int:
        """Count matching documents, stopping at `limit` where one is given."""
        if limit == 0:
            return 0
        # The driver's own way is an aggregation, at several times the cost. It counts right also
        # where a sharded cluster is just moving documents, which is nothing to limit a queue by.
        command = {
            "count": self.name,
            "query": query_of(where),
            "limit": limit or 0,
            "readConcern": READ_CONCERN.document,
        }
        async with self._store.asked(f"{self.name}: count"):
            found = await self._collection.database.command(command)
        return int(found["n"])

    async def flush(self) -> None:
        """Return: what was answered is in the journals of a majority already."""

    async def leftovers(
        self, *, before: datetime, limit: int
    ) -> Sequence[tuple[str, Sequence[Event]]]:
        """Return keys and undelivered events of documents last written before an instant."""
        if limit == 0:
            return []  # to MongoDB that means all
        async with self._store.asked(f"{self.name}: leftovers"):
            cursor = self._collection.find(
                {WAKE_AT: {"$lte": before + WAKE_AFTER}},
                {OUTBOX: 1},
                sort=[(WAKE_AT, 1)],
                limit=limit,
                batch_size=limit,
            )
            found = await cursor.to_list()
        return [(one["_id"], list(events_in(one["_id"], one.get(OUTBOX, ())))) for one in found]

    async def waiting(self, key: str) -> Sequence[Event]:
        """Return the undelivered events of one document, in the order of their writes."""
        async with self._store.asked(f"{self.name}: outbox of {key}"):
            found = await self._collection.find_one({"_id": key}, {OUTBOX: 1})
        return list(events_in(key, (found or {}).get(OUTBOX, ())))

    async def clear(self, sent: Mapping[str, Sequence[str]]) -> None:
        """Take events off their outboxes; unknown ones are ignored."""
        if not sent:
            return
        async with self._store.asked(f"{self.name}: clear"):
            done = await self._collection.bulk_write(clearings(sent), ordered=False)
            if done.matched_count < len(sent):
                await self._collection.bulk_write(partial_clearings(sent))

    def _fresh(self, key: str, document: Mapping[str, Any]) -> Document:
        marks = self._uniqueness.marks(key, document)
        return {**document, **marks, "_id": key, "version": 1}
