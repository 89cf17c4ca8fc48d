"""A hundred thousand finished executions, as the system itself would have left them.

One real execution is the template: its documents, its events and its records of the log are copied
with other ids and times, in the real tables, so that every index and every page is as it would be.
"""

import sqlite3
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.events.topics import TOPICS, Topic

_BATCH: Final = 2000
_OFFSET_BITS: Final = 44
_HASH_MARK: Final = "@@@@@@@@"
_TIME_MARK: Final = "############"
_SPACING_MS: Final = 750
"""Between two executions: a hundred thousand of them took a day."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of one collection that belong to the template."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def statement(self) -> str:
        """Return what inserts a row."""
        columns = ", ".join(f'"{column}"' for column in self.columns)
        return (
            f'INSERT INTO "{self.name}" ({columns}) VALUES ({", ".join("?" * len(self.columns))})'  # noqa: S608 - names of our own tables
        )


def fill(data_dir: Path, execution_id: str, count: int) -> int:
    """Copy a finished execution so often; return the bytes of the database afterwards.

    The system must be stopped.
    """
    connection = sqlite3.connect(data_dir / "integr8s.db", isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        _Copier(connection, execution_id).copy(count)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "page_size")
        )
        return int(pages) * int(size)
    finally:
        connection.close()


class _Copier:
    """Knows the template, and makes others of it by exchanging its ids."""

    def __init__(self, connection: sqlite3.Connection, execution_id: str) -> None:
        self._connection = connection
        self._ends: dict[int, int] = {}
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 2) = 'd_'"
        ).fetchall()
        tables = [self._table(name, execution_id) for (name,) in names if name != "d_pools"]
        records = connection.execute(
            "SELECT id, key, headers, value, at FROM records WHERE key = ? ORDER BY id",
            (execution_id.encode(),),
        ).fetchall()
        ids = {execution_id} | {row[0] for table in tables for row in table.rows}
        marks = [(text, _marked(text)) for text in ids if _is_uuid(text)]
        self._tables = [
            _Table(table.name, table.columns, tuple(_exchanged(row, marks) for row in table.rows))
            for table in tables
            if table.rows
        ]
        self._records = [_exchanged(record, marks) for record in records]

    def _table(self, name: str, execution_id: str) -> _Table:
        columns = tuple(row[1] for row in self._connection.execute(f'PRAGMA table_info("{name}")'))
        rows = self._connection.execute(
            f'SELECT * FROM "{name}" WHERE key = ? OR instr(body, ?)',  # noqa: S608
            (execution_id, execution_id.encode()),
        ).fetchall()
        return _Table(name, columns, tuple(rows))

    def copy(self, count: int) -> None:
        """Insert so many copies, older and older."""
        self._read_ends()
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            self._connection.execute("BEGIN")
            for table in self._tables:
                self._connection.executemany(table.statement, _copies(table, numbers))
            self._connection.executemany(
                "INSERT INTO records (id, key, headers, value, at) VALUES (?, ?, ?, ?, ?)",
                self._copied_records(numbers),
            )
            self._connection.execute("COMMIT")
        self._commit_offsets()

    def _copied_records(self, numbers: range) -> Iterator[tuple[Any, ...]]:
        for number in numbers:
            pairs = _numbered(number)
            for record in self._records:
                record_id, key, *rest = _exchanged(record, pairs)
                yield (self._next_id(record_id, key), key, *rest)

    def _next_id(self, like: int, key: bytes) -> int:
        """Return the next rowid in the partition of a key, in the topic of a record."""
        topic = like >> _OFFSET_BITS >> 8
        count = TOPICS[list(Topic)[topic - 1]].partitions
        place = topic << 8 | zlib.crc32(key) % count
        offset = self._ends.get(place, 0)
        self._ends[place] = offset + 1
        return (place << _OFFSET_BITS) + offset

    def _read_ends(self) -> None:
        for topic, spec in enumerate(TOPICS.values(), start=1):
            for part in range(spec.partitions):
                place = topic << 8 | part
                base = place << _OFFSET_BITS
                (high,) = self._connection.execute(
                    "SELECT max(id) FROM records WHERE id >= ? AND id < ?",
                    (base, base + (1 << _OFFSET_BITS)),
                ).fetchone()
                if high is not None:
                    self._ends[place] = high - base + 1

    def _commit_offsets(self) -> None:
        """Let every group have handled every record, or the functions would start with them."""
        names = [topic.value for topic in Topic]
        groups = self._connection.execute("SELECT DISTINCT grp, topic FROM offsets").fetchall()
        rows = [
            (group, topic, place & 0xFF, end)
            for group, topic in groups
            for place, end in self._ends.items()
            if names[(place >> 8) - 1] == topic
        ]
        self._connection.executemany(
            "INSERT INTO offsets VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET committed = excluded.committed",
            rows,
        )


def _copies(table: _Table, numbers: range) -> Iterator[tuple[Any, ...]]:
    times = [n for n, name in enumerate(table.columns) if name in ("rank", "created_at")]
    for number in numbers:
        pairs = _numbered(number)
        for row in table.rows:
            copied = list(_exchanged(row, pairs))
            for place in times:
                if isinstance(copied[place], int):
                    copied[place] -= (number + 1) * _SPACING_MS
            yield tuple(copied)


def _is_uuid(text: object) -> bool:
    try:
        uuid.UUID(str(text))
    except ValueError:
        return False
    return True


def _marked(text: str) -> str:
    """Return an id with a mark of the same length where its copies differ.

    Ids by time differ at the end, so that copies lie together in an index, as real ones do; ids by
    hash differ at the beginning, so that they lie everywhere.
    """
    if uuid.UUID(text).version == 5:
        return _HASH_MARK + text[len(_HASH_MARK) :]
    return text[: -len(_TIME_MARK)] + _TIME_MARK


def _numbered(number: int) -> list[tuple[str, str]]:
    # The factor is odd: multiplied modulo a power of two, no two numbers meet.
    spread = (number + 1) * 2_654_435_761 % (1 << 32)
    return [(_HASH_MARK, f"{spread:08x}"), (_TIME_MARK, f"{number + 1:012x}")]


def _exchanged(row: tuple[Any, ...], pairs: list[tuple[str, str]]) -> tuple[Any, ...]:
    """Return a row with every old text replaced by the new one of the same length."""
    copied = []
    for value in row:
        changed = value
        if isinstance(value, str):
            for old, new in pairs:
                changed = changed.replace(old, new)
        elif isinstance(value, bytes):
            for old, new in pairs:
                changed = changed.replace(old.encode(), new.encode())
        copied.append(changed)
    return tuple(copied)
