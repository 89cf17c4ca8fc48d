"""Documents in SQLite: one table a collection, a column for every field that is searched by."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgpack

from shared.adapters.sqlite.emission import DirectEmission
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.instants import milliseconds
from shared.adapters.sqlite.outbox import SqliteOutbox
from shared.adapters.sqlite.store import SqliteStore
from shared.domain.errors import AlreadyExists, PermanentError
from shared.domain.times import to_milliseconds
from shared.events.event import Event
from shared.ports.clock import Clock
from shared.ports.documents import Collection, Document, Filter, Sort
from shared.ports.filters import is_operators, lookup, matches, sort_key

_BYTES, _BOOL, _TIME = b"\x00", b"\x01", b"\x02"
_BEFORE_1970 = 1 << 63
_COMPARISONS = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


class Emission(Protocol):
    """Where the events of a document go, in the document's own batch."""

    def encoded(self, events: Sequence[Event]) -> Sequence[Any]:
        """Return events as they will be written; what cannot be is refused here."""

    def add(self, key: str, events: Sequence[Any]) -> None:
        """Write events in the current batch."""


class SqliteDocuments:
    """One collection. Bodies are MessagePack: exact bytes and times, quick both ways."""

    def __init__(
        self,
        store: SqliteStore,
        collection: Collection,
        clock: Clock,
        log: SqliteEventLog | None = None,
    ) -> None:
        """Make the table and its columns where they are missing.

        With a `log` on the same store, what is emitted is in it with the document's own commit;
        without, it waits in the outbox until somebody publishes it.
        """
        self._store = store
        self._outbox = SqliteOutbox(store, collection.name, clock)
        self.emits_directly = log is not None
        self._emission: Emission = self._outbox if log is None else DirectEmission(log)
        self.name = collection.name
        self._fields = tuple(dict.fromkeys(f for i in collection.indexes for f in i.fields))
        self._table = f'"d_{collection.name}"'
        self._prepare(collection)
        columns = "".join(f', "{field}"' for field in self._fields)
        marks = ", ?" * len(self._fields)
        self._insert = (
            f"INSERT INTO {self._table} (key, body{columns})"  # noqa: S608 - names are ours
            f" VALUES (?, ?{marks})"
        )
        assignments = "".join(f', "{field}" = ?' for field in self._fields)
        self._update = f"UPDATE {self._table} SET body = ?{assignments} WHERE key = ?"  # noqa: S608

    def _prepare(self, collection: Collection) -> None:
        connection = self._store.connection
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (key TEXT PRIMARY KEY, body BLOB NOT NULL)"
        )
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({self._table})")}
        added = [field for field in self._fields if field not in present]
        for field in added:
            connection.execute(f'ALTER TABLE {self._table} ADD COLUMN "{field}"')
        if added:
            self._fill(added)
        for index in collection.indexes:
            name = f"i_{collection.name}_{'_'.join(index.fields)}"
            columns = ", ".join(f'"{field}"' for field in index.fields)
            unique = "UNIQUE " if index.unique else ""
            connection.execute(
                f'CREATE {unique}INDEX IF NOT EXISTS "{name}" ON {self._table} ({columns})'
            )

    def _fill(self, fields: Sequence[str]) -> None:
        connection = self._store.connection
        assignments = ", ".join(f'"{field}" = ?' for field in fields)
        rows = connection.execute(f"SELECT key, body FROM {self._table}").fetchall()  # noqa: S608
        connection.executemany(
            f"UPDATE {self._table} SET {assignments} WHERE key = ?",  # noqa: S608
            [(*(_column(lookup(_unpack(body), f)) for f in fields), key) for key, body in rows],
        )

    async def get(self, key: str) -> Document | None:
        """Return the document, or None."""
        row = self._store.query(
            f"SELECT body FROM {self._table} WHERE key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        return None if row is None else _document(key, row[0])

    async def insert(
        self, key: str, document: Mapping[str, Any], *, emit: Sequence[Event] = ()
    ) -> Document:
        """Store a new document with its events; AlreadyExists where a unique key is taken."""
        fresh = {**document, "version": 1}
        fresh.pop("_id", None)
        body = _pack(fresh)
        events = self._emission.encoded(emit)
        try:
            self._store.write(self._insert, (key, body, *self._columns(fresh)))
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"{self.name} has {key} already: {error}") from error
        self._emission.add(key, events)
        await self._store.committed()
        return _document(key, body)

    async def insert_all(self, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
        """Store new documents up to the first whose key is taken; return how many were stored."""
        stored = 0
        for key, document in documents:
            fresh = {**document, "version": 1}
            try:
                self._store.write(self._insert, (key, _pack(fresh), *self._columns(fresh)))
            except sqlite3.IntegrityError:
                break
            stored += 1
        await self._store.committed()
        return stored

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
        # No await between reading and writing: nothing else runs in this thread meanwhile.
        row = self._store.query(
            f"SELECT body FROM {self._table} WHERE key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        if row is None:
            return None
        document = _unpack(row[0])
        if not matches({"_id": key, **document}, _as_kept(when)):
            return None
        for path, value in (set or {}).items():
            _assign(document, path, value)
        for path in unset:
            _remove(document, path)
        document["version"] = document.get("version", 0) + 1
        body = _pack(document)
        events = self._emission.encoded(emit)
        try:
            self._store.write(self._update, (body, *self._columns(document), key))
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"{self.name}: {error}") from error
        self._emission.add(key, events)
        await self._store.committed()
        return _document(key, body)

    async def delete(self, key: str, *, when: Filter | None = None) -> bool:
        """Remove the document if it matches; say whether there was one."""
        if when is not None:
            document = await self.get(key)
            if document is None or not matches(document, _as_kept(when)):
                return False
        done = self._store.write(f"DELETE FROM {self._table} WHERE key = ?", (key,))  # noqa: S608
        removed = done.rowcount > 0
        await self._store.committed()
        return removed

    async def find(
        self,
        where: Filter | None = None,
        *,
        sort: Sort = (),
        skip: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """Return matching documents, each with its key under `_id`."""
        where = _as_kept(where)
        sql, parameters, exact = self._condition(where)
        by_columns = exact and all(field in self._fields for field, _ in sort)
        statement = f"SELECT key, body FROM {self._table}{sql}"  # noqa: S608
        if not by_columns:
            rows = self._store.query(statement, parameters)
            found = [d for d in _documents(rows) if exact or matches(d, where)]
            for field, direction in reversed(sort):
                found.sort(
                    key=lambda d, f=field: sort_key(lookup(d, f)),  # type: ignore[misc]
                    reverse=direction < 0,
                )
            return found[skip : None if limit is None else skip + limit]
        order = ", ".join(f'"{f}" {"DESC" if d < 0 else "ASC"}' for f, d in sort)
        statement += f" ORDER BY {order}" if order else ""
        statement += " LIMIT ? OFFSET ?"
        bounds = (-1 if limit is None else limit, skip)
        return list(_documents(self._store.query(statement, (*parameters, *bounds))))

    async def count(self, where: Filter | None = None, *, limit: int | None = None) -> int:
        """Count matching documents, stopping at `limit` where one is given."""
        where = _as_kept(where)
        sql, parameters, exact = self._condition(where)
        if not exact:
            rows = self._store.query(f"SELECT key, body FROM {self._table}{sql}", parameters)  # noqa: S608
            hits = 0
            for document in _documents(rows):
                hits += matches(document, where)
                if hits == limit:
                    break
            return hits
        inner = f"SELECT 1 FROM {self._table}{sql} LIMIT ?"  # noqa: S608
        (count,) = self._store.query(
            f"SELECT count(*) FROM ({inner})",  # noqa: S608
            (*parameters, -1 if limit is None else limit),
        ).fetchone()
        return int(count)

    async def flush(self) -> None:
        """Return once everything answered so far survives loss of power."""
        await self._store.flush()

    async def leftovers(
        self, *, before: datetime, limit: int
    ) -> Sequence[tuple[str, Sequence[Event]]]:
        """Return keys and undelivered events of documents last written before an instant."""
        return self._outbox.leftovers(before, limit)

    async def waiting(self, key: str) -> Sequence[Event]:
        """Return the undelivered events of one document, in the order of their writes."""
        return self._outbox.waiting(key)

    async def clear(self, sent: Mapping[str, Sequence[str]]) -> None:
        """Take events off their outboxes; unknown ones are ignored."""
        await self._outbox.clear(sent)

    def _columns(self, document: Document) -> list[Any]:
        return [_column(lookup(document, field)) for field in self._fields]

    def _condition(self, where: Filter | None) -> tuple[str, list[Any], bool]:
        """Return a WHERE clause, its parameters, and whether it says all that the filter says."""
        parts: list[str] = []
        parameters: list[Any] = []
        exact = True
        for field, condition in (where or {}).items():
            if field not in self._fields or not self._narrow(field, condition, parts, parameters):
                exact = False
        return (f" WHERE {' AND '.join(parts)}" if parts else ""), parameters, exact

    def _narrow(self, field: str, condition: Any, parts: list[str], parameters: list[Any]) -> bool:
        operators = condition if is_operators(condition) else {"$eq": condition}
        exact = True
        for name, operand in operators.items():
            if name == "$eq" and operand is None:
                parts.append(f'"{field}" IS NULL')
            elif name == "$eq" and _is_scalar(operand):
                parts.append(f'"{field}" = ?')
                parameters.append(_column(operand))
            elif name == "$in" and operand and all(_is_scalar(value) for value in operand):
                parts.append(f'"{field}" IN ({", ".join("?" * len(operand))})')
                parameters.extend(_column(value) for value in operand)
            elif name in ("$ne", "$nin"):
                values = [operand] if name == "$ne" else operand
                if not all(_is_scalar(value) for value in values):
                    exact = False
                    continue
                marks = ", ".join("?" * len(values))
                parts.append(f'("{field}" IS NULL OR "{field}" NOT IN ({marks}))')
                parameters.extend(_column(value) for value in values)
            elif name in _COMPARISONS and _is_scalar(operand):
                parts.append(f'"{field}" {_COMPARISONS[name]} ? AND {_same_kind(field, operand)}')
                parameters.append(_column(operand))
            else:
                exact = False
        return exact


def _same_kind(field: str, operand: Any) -> str:
    """Return the condition that a column holds a value of the operand's kind."""
    if isinstance(operand, str):
        return f"typeof(\"{field}\") = 'text'"
    if isinstance(operand, (bool, bytes, datetime)):
        kind = _column(operand)[0]
        return f"\"{field}\" >= x'{kind:02x}' AND \"{field}\" < x'{kind + 1:02x}'"
    return f"typeof(\"{field}\") IN ('integer', 'real')"


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bytes, datetime))


def _column(value: Any) -> Any:
    """Return a value as SQLite keeps it in a column: numbers and texts as they are.

    The other kinds are blobs that begin with the kind, so that no kind equals another or compares
    with it, and that are ordered as the values are.
    """
    if isinstance(value, bool):
        return _BOOL + bytes([value])
    if isinstance(value, datetime):
        return _TIME + (milliseconds(value) + _BEFORE_1970).to_bytes(8)
    if isinstance(value, bytes):
        return _BYTES + value
    if isinstance(value, (dict, list)):
        raise PermanentError("a field that is searched by cannot hold a list or an object")
    return value


def _as_kept(value: Any) -> Any:
    """Return a filter with its times cut as stored ones are, so that equal ones are equal."""
    kind = type(value)
    if kind is datetime:
        return to_milliseconds(value)
    if kind is dict:
        return {name: _as_kept(inner) for name, inner in value.items()}
    if kind is list or kind is tuple:
        return [_as_kept(inner) for inner in value]
    return value


def _stamp(value: Any) -> Any:
    """Return what MessagePack cannot write by itself: times, cut to the millisecond."""
    if isinstance(value, datetime):
        seconds, rest = divmod(milliseconds(value), 1000)
        return msgpack.Timestamp(seconds, rest * 1_000_000)
    raise PermanentError(f"a document cannot hold a {type(value).__name__}")


def _pack(document: Document) -> bytes:
    return msgpack.packb(document, default=_stamp)  # type: ignore[no-any-return]


def _unpack(body: bytes) -> Document:
    return msgpack.unpackb(body, timestamp=3)  # type: ignore[no-any-return]


def _document(key: str, body: bytes) -> Document:
    document = _unpack(body)
    document["_id"] = key
    return document


def _documents(rows: sqlite3.Cursor) -> Iterator[Document]:
    return (_document(key, body) for key, body in rows)


def _assign(document: Document, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[name] = value


def _remove(document: Document, path: str) -> None:
    *parents, name = path.split(".")
    holder = lookup(document, ".".join(parents)) if parents else document
    if isinstance(holder, dict):
        holder.pop(name, None)
