"""What documents emitted and is not published yet: rows of their own, in the document's own commit.

Kept beside the documents instead of inside them, because most are taken off again within
milliseconds: that is then one small delete, not a second write of the whole document.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgpack

from shared.adapters.sqlite.instants import milliseconds
from shared.adapters.sqlite.store import SqliteStore
from shared.events.codec import decode, encode
from shared.events.event import Event
from shared.ports.clock import Clock

Encoded = tuple[Event, tuple[tuple[str, bytes], ...], bytes]
"""An event, and its headers and value as a record."""


class SqliteOutbox:
    """The outboxes of one collection."""

    def __init__(self, store: SqliteStore, collection: str, clock: Clock) -> None:
        """Make the table where it is missing; all collections share it."""
        self._store = store
        self._collection = collection
        self._clock = clock
        self._rows: dict[tuple[str, str], int] = {}
        """Document key and event id -> row of what this process wrote and has not cleared."""
        store.connection.execute(
            "CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " collection TEXT NOT NULL, key TEXT NOT NULL, event_id TEXT NOT NULL,"
            " partition_key TEXT NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL,"
            " written INTEGER NOT NULL)"
        )

    @staticmethod
    def encoded(events: Sequence[Event]) -> Sequence[Encoded]:
        """Return events as rows hold them; called before the document is written.

        An event that cannot be encoded must not leave its document behind in the batch.
        """
        return [(event, *encode(event)) for event in events]

    def add(self, key: str, events: Sequence[Encoded]) -> None:
        """Write events in the current batch, to be committed with their document."""
        written = milliseconds(self._clock.now())
        for event, headers, body in events:
            row = self._store.write(
                "INSERT INTO outbox (collection, key, event_id, partition_key, headers, body,"
                " written) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._collection,
                    key,
                    event.id,
                    event.key,
                    msgpack.packb(headers),
                    body,
                    written,
                ),
            )
            if row.lastrowid is not None:
                self._rows[key, event.id] = row.lastrowid

    def leftovers(self, before: datetime, limit: int) -> Sequence[tuple[str, Sequence[Event]]]:
        """Return document keys and events written before an instant, in order of writing."""
        rows = self._store.query(
            "SELECT id, key, event_id, partition_key, headers, body FROM outbox"
            " WHERE collection = ? AND written <= ? ORDER BY id LIMIT ?",
            (self._collection, milliseconds(before), limit),
        )
        return list(self._events(rows).items())

    def waiting(self, key: str) -> Sequence[Event]:
        """Return the events of one document, in order of writing."""
        rows = self._store.query(
            "SELECT id, key, event_id, partition_key, headers, body FROM outbox"
            " WHERE collection = ? AND key = ? ORDER BY id",
            (self._collection, key),
        )
        return self._events(rows).get(key, [])

    def _events(self, rows: sqlite3.Cursor) -> dict[str, list[Event]]:
        """Return the events in rows by their document's key, and remember the rows."""
        found: dict[str, list[Event]] = defaultdict(list)
        for row, key, event_id, partition_key, headers, body in rows:
            self._rows[key, event_id] = row
            pairs = tuple((name, value) for name, value in msgpack.unpackb(headers))
            found[key].append(decode(partition_key.encode(), pairs, body))
        return found

    async def clear(self, sent: Mapping[str, Sequence[str]]) -> None:
        """Remove events that are published; unknown ones are ignored."""
        for key, event_ids in sent.items():
            for event_id in event_ids:
                row = self._rows.pop((key, event_id), None)
                if row is not None:
                    self._store.write("DELETE FROM outbox WHERE id = ?", (row,))
                else:
                    self._store.write(
                        "DELETE FROM outbox WHERE collection = ? AND key = ? AND event_id = ?",
                        (self._collection, key, event_id),
                    )
        await self._store.committed()
