"""From documents to topics: what was emitted with a change is published, at least once.

The document holds the events until they are known to be in the log. This process publishes what it
wrote itself right away, in the order of its writes, and takes it off the documents a little later,
many at once. A write that got no answer may have been done: then it looks whether it was. What a
crash leaves behind is found by `sweep`.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from shared.domain.errors import PermanentError, TemporaryError
from shared.events.codec import encode
from shared.events.event import Event
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents, Filter, Leftovers, Sort
from shared.ports.event_log import EventLog, NewRecord

_LOG = logging.getLogger(__name__)
_LEFT_BEHIND = timedelta(seconds=10)
"""What is older than this was written by a process that did not live to publish it."""
_CLEAR_EVERY = timedelta(milliseconds=500)
"""Most documents are written to again meanwhile, and then cleared once for all of it. What a dead
process has published and not cleared is published twice, which consumers expect."""
_LOOK_AFTER = timedelta(seconds=1)
"""A store that was away does what it was told before it answers whoever asks later."""
_UNANSWERED = (TemporaryError, asyncio.CancelledError)
"""How a write ends whose answer is not known: it may have been done."""
_PAGE = 200


class Collection(Documents, Leftovers, Protocol):
    """Documents with an outbox."""

    emits_directly: bool
    """Whether what is emitted is in the log as soon as it is stored, so that nothing waits."""


@dataclass(frozen=True, slots=True)
class _Written:
    """An event, and the document that holds it until it is published."""

    collection: str
    key: str
    event: Event


def record_of(event: Event) -> NewRecord:
    """Return the record that an event becomes."""
    headers, value = encode(event)
    return NewRecord(event.topic, event.key.encode(), headers, value)


class LogPublisher:
    """Says events that go with no change of a document."""

    def __init__(self, log: EventLog) -> None:
        """Publish to a log."""
        self._log = log

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once all are acknowledged."""
        if events:
            await self._log.append([record_of(event) for event in events])


class Outbox:
    """The outboxes of all collections, as one process sees them."""

    def __init__(
        self, log: EventLog, clock: Clock, collection: Callable[[str], Collection]
    ) -> None:
        """Publish to a log what the collections hold."""
        self._log = log
        self._clock = clock
        self._collection = collection
        self._names: set[str] = set()
        self._written: list[_Written] = []
        self._published: list[_Written] = []
        self._doubted: set[tuple[str, str]] = set()
        self._publishing: asyncio.Task[None] | None = None
        self._clearing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def documents(self, name: str) -> "OutboxDocuments":
        """Return a collection whose emitted events are published by this outbox."""
        self._names.add(name)
        return OutboxDocuments(self._collection(name), name, self)

    def written(self, collection: str, key: str, events: Sequence[Event]) -> None:
        """Take note of events that were just stored with a document; they go out at once."""
        self._written += [_Written(collection, key, event) for event in events]
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())

    def doubted(self, collection: str, key: str) -> None:
        """Take note of a write that got no answer, though it may have been done.

        Whoever tries it again finds it done and has nothing more to say: nobody but us would
        publish its events before the sweep.
        """
        self._doubted.add((collection, key))
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())

    async def drain(self) -> None:
        """Return once everything written by this process is published and cleared."""
        while tasks := self._at_work():
            await asyncio.wait(tasks)

    def abandon(self) -> None:
        """Drop everything at once, as the death of the process would."""
        for task in self._at_work():
            task.cancel()
        self._doubted.clear()
        self._written.clear()
        self._published.clear()

    def _at_work(self) -> list[asyncio.Task[None]]:
        tasks = (self._looking, self._publishing, self._clearing)
        return [task for task in tasks if task is not None]

    async def sweep(self) -> int:
        """Publish what crashed processes left behind; return how many events."""
        before = self._clock.now() - _LEFT_BEHIND
        count = 0
        for name in sorted(self._names):
            collection = self._collection(name)
            for key, events in await collection.leftovers(before=before, limit=_PAGE):
                batch = [_Written(name, key, event) for event in events]
                sent = await self._append(batch)
                await collection.clear({key: [written.event.id for written in sent]})
                count += len(sent)
        return count

    async def left_behind(self, name: str) -> int:
        """Return whether a collection holds events that a crash left behind, as 0 or 1."""
        self._names.add(name)
        before = self._clock.now() - _LEFT_BEHIND
        return len(await self._collection(name).leftovers(before=before, limit=1))

    async def _publish(self) -> None:
        try:
            while self._written:
                batch, self._written = self._written, []
                try:
                    sent = await self._append(batch)
                except TemporaryError as error:
                    # Nothing overtakes: what was written meanwhile stays behind these.
                    self._written = batch + self._written
                    _LOG.warning("the event log is away, events wait: %s", error)
                    await self._clock.sleep(error.retry_after)
                    continue
                self._published += sent
                if self._clearing is None:
                    self._clearing = asyncio.create_task(self._clear())
        finally:
            self._publishing = None

    async def _look(self) -> None:
        """Publish what writes without an answer have left, once the store answers again."""
        try:
            while self._doubted:
                await self._clock.sleep(_LOOK_AFTER)
                for name, key in sorted(self._doubted):
                    try:
                        events = await self._collection(name).waiting(key)
                    except TemporaryError as error:
                        await self._clock.sleep(error.retry_after)
                        break
                    self._doubted.discard((name, key))
                    self.written(name, key, events)
        finally:
            self._looking = None

    async def _append(self, batch: Sequence[_Written]) -> Sequence[_Written]:
        """Append events; one that the log will never take stays in its document, with an alarm."""
        try:
            await self._log.append([record_of(written.event) for written in batch])
        except PermanentError:
            if len(batch) == 1:
                event = batch[0].event
                _LOG.exception("event %s of type %s cannot be published", event.id, event.type)
                return []
            sent: list[_Written] = []
            for written in batch:
                sent += await self._append([written])
            return sent
        return batch

    async def _clear(self) -> None:
        try:
            while self._published:
                await self._clock.sleep(_CLEAR_EVERY)
                batch, self._published = self._published, []
                by_collection: dict[str, dict[str, list[str]]] = defaultdict(dict)
                for one in batch:
                    by_collection[one.collection].setdefault(one.key, []).append(one.event.id)
                try:
                    for name, sent in by_collection.items():
                        await self._collection(name).clear(sent)
                except TemporaryError as error:
                    _LOG.warning("published events could not be cleared, the sweep will: %s", error)
        finally:
            self._clearing = None


class OutboxDocuments:
    """A collection whose emitted events go out as soon as they are stored."""

    def __init__(self, inner: Collection, name: str, outbox: Outbox) -> None:
        """Wrap a collection."""
        self._inner = inner
        self._name = name
        self._outbox = outbox

    async def get(self, key: str) -> Document | None:
        """Return the document, or None."""
        return await self._inner.get(key)

    async def find(
        self,
        where: Filter | None = None,
        *,
        sort: Sort = (),
        skip: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """Return matching documents."""
        return await self._inner.find(where, sort=sort, skip=skip, limit=limit)

    async def count(self, where: Filter | None = None, *, limit: int | None = None) -> int:
        """Count matching documents."""
        return await self._inner.count(where, limit=limit)

    async def delete(self, key: str, *, when: Filter | None = None) -> bool:
        """Remove the document if it matches."""
        return await self._inner.delete(key, when=when)

    async def flush(self) -> None:
        """Return once everything answered so far survives loss of power."""
        await self._inner.flush()

    async def insert(
        self, key: str, document: Mapping[str, Any], *, emit: Sequence[Event] = ()
    ) -> Document:
        """Store a new document; its events go out."""
        try:
            stored = await self._inner.insert(key, document, emit=emit)
        except _UNANSWERED:
            self._doubt(key, emit)
            raise
        if emit and not self._inner.emits_directly:
            self._outbox.written(self._name, key, emit)
        return stored

    async def insert_all(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Store new documents; nothing is emitted with them."""
        return await self._inner.insert_all(documents)

    async def change(
        self,
        key: str,
        *,
        when: Filter | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - MongoDB's own word
        unset: Sequence[str] = (),
        emit: Sequence[Event] = (),
    ) -> Document | None:
        """Change the document; its events go out if it was changed."""
        try:
            changed = await self._inner.change(key, when=when, set=set, unset=unset, emit=emit)
        except _UNANSWERED:
            self._doubt(key, emit)
            raise
        if emit and changed is not None and not self._inner.emits_directly:
            self._outbox.written(self._name, key, emit)
        return changed

    def _doubt(self, key: str, emit: Sequence[Event]) -> None:
        """Have the outbox look after a write that may have been done."""
        if emit and not self._inner.emits_directly:
            self._outbox.doubted(self._name, key)
