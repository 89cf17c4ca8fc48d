"""The one connection: what was answered is kept, and what could not be kept is said."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from shared.adapters.sqlite.store import SCHEMA_VERSION, SqliteStore
from shared.domain.errors import StartupError, TemporaryError

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is."""
    return tmp_path / "test.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """Return a store on a file, with a table."""
    fresh = SqliteStore(path)
    fresh.connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    yield fresh
    await fresh.close()


def rows(path: Path) -> list[int]:
    """Return what another process would see."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT a FROM t ORDER BY a")]
    finally:
        connection.close()


def size_of(path: Path) -> int:
    """Return how many bytes a file has."""
    return path.stat().st_size


def add(store: SqliteStore, *numbers: int) -> None:
    """Write rows in the current batch."""
    store.write_many("INSERT INTO t (a) VALUES (?)", [(number,) for number in numbers])


async def test_writes_of_one_turn_share_one_commit(store: SqliteStore, path: Path) -> None:
    """Nobody sees a part of it."""
    add(store, 1)
    add(store, 2)
    assert rows(path) == []

    await store.committed()

    assert rows(path) == [1, 2]


async def test_a_query_sees_what_is_not_committed_yet(store: SqliteStore) -> None:
    """It is the same connection."""
    add(store, 1)

    assert store.query("SELECT count(*) FROM t").fetchone() == (1,)
    await store.committed()


async def test_a_taken_key_leaves_the_rest_of_the_batch(store: SqliteStore, path: Path) -> None:
    """Whoever asked hears of it, nobody else."""
    store.write("INSERT INTO t (a) VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError):
        store.write("INSERT INTO t (a) VALUES (1)")
    store.write("INSERT INTO t (a) VALUES (2)")

    await store.committed()

    assert rows(path) == [1, 2]


async def test_a_failing_statement_takes_the_whole_batch(store: SqliteStore, path: Path) -> None:
    """Every writer of it hears of it, and undoes what it noted."""
    noted: list[str] = []

    async def write() -> None:
        store.after_commit(lambda: noted.append("done"), lambda: noted.append("undone"))
        add(store, 1)
        await store.committed()

    async def fail() -> None:
        store.write("INSERT INTO nowhere VALUES (1)")

    results = await asyncio.gather(write(), fail(), return_exceptions=True)

    assert [type(result) for result in results] == [TemporaryError, TemporaryError]
    assert noted == ["undone"]
    assert rows(path) == []


async def test_after_a_failure_the_next_batch_is_fine(store: SqliteStore, path: Path) -> None:
    """One bad moment is not the end."""
    with pytest.raises(TemporaryError):
        store.write("INSERT INTO nowhere VALUES (1)")

    add(store, 3)
    await store.committed()

    assert rows(path) == [3]


async def test_a_rollback_that_failed_is_made_up_for(store: SqliteStore, path: Path) -> None:
    """Else no transaction would ever begin again."""
    store.connection.execute("BEGIN IMMEDIATE")
    store.connection.execute("INSERT INTO t (a) VALUES (1)")

    add(store, 2)
    await store.committed()

    assert rows(path) == [2]


async def test_acts_follow_the_commit(store: SqliteStore, path: Path) -> None:
    """In the order in which they were asked for."""
    seen: list[list[int]] = []
    add(store, 1)
    store.after_commit(lambda: seen.append(rows(path)), lambda: None)
    await store.committed()

    assert seen == [[1]]


class Disk:
    """The disk's syncs: what was committed when each began, and a gate that holds them up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = threading.Event()
        self.open.set()
        self.begun: list[int] = []
        self.errors: list[OSError] = []
        self._fdatasync = os.fdatasync

    def sync(self, handle: int) -> None:
        """Note how many rows were committed when the sync began; then wait for the gate."""
        self.begun.append(len(rows(self.path)))
        self.open.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self._fdatasync(handle)


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Return the disk, which is let go at the end."""
    watched = Disk(path)
    monkeypatch.setattr(os, "fdatasync", watched.sync)
    yield watched
    watched.open.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does; its time is the disk's, not ours."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_a_flush_covers_everything_written_before_it(store: SqliteStore, disk: Disk) -> None:
    """Also where a sync was under way: it began too early."""
    disk.open.clear()
    add(store, 1)
    first = asyncio.create_task(store.flush())
    await until(lambda: disk.begun == [1])
    add(store, 2)
    second = asyncio.create_task(store.flush())
    await store.committed()
    add(store, 3)
    third = asyncio.create_task(store.flush())
    await store.committed()
    disk.open.set()
    await asyncio.gather(first, second, third)

    assert disk.begun == [1, 3]


async def test_many_flushes_are_few_syncs(store: SqliteStore, disk: Disk) -> None:
    """And each finds its rows on the disk when it returns."""
    covered: list[bool] = []

    async def write(number: int) -> None:
        for turn in range(20):
            add(store, number * 100 + turn)
            await store.committed()
            written = len(rows_of(store))
            begun = len(disk.begun)
            await store.flush()
            covered.append(max(disk.begun[begun:], default=0) >= written)

    await asyncio.gather(*(write(number) for number in range(20)))

    assert len(covered) == 400
    assert all(covered)
    assert len(disk.begun) < 200


def rows_of(store: SqliteStore) -> list[tuple[int]]:
    """Return every row."""
    return store.query("SELECT a FROM t").fetchall()


async def test_a_failing_disk_is_said_to_who_waited_for_it(store: SqliteStore, disk: Disk) -> None:
    """And to nobody else: the next sync may succeed."""
    disk.open.clear()
    disk.errors = [OSError("no")]
    add(store, 1)
    first = asyncio.create_task(store.flush())
    await until(lambda: disk.begun == [1])
    second = asyncio.create_task(store.flush())
    disk.open.set()

    results = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(result) for result in results] == [TemporaryError, type(None)]


async def test_a_waiter_that_gives_up_stops_no_sync(store: SqliteStore, disk: Disk) -> None:
    """Others wait for the same one."""
    disk.open.clear()
    add(store, 1)
    first = asyncio.create_task(store.flush())
    await until(lambda: disk.begun == [1])
    second = asyncio.create_task(store.flush())
    third = asyncio.create_task(store.flush())
    await store.committed()
    first.cancel()
    second.cancel()
    disk.open.set()

    await third

    assert disk.begun == [1, 1]


async def test_a_database_in_memory_has_nothing_to_flush() -> None:
    """It returns after the commit."""
    memory = SqliteStore()
    memory.connection.execute("CREATE TABLE t (a)")
    memory.write("INSERT INTO t VALUES (1)")
    await memory.flush()

    assert memory.query("SELECT count(*) FROM t").fetchone() == (1,)
    await memory.close()


async def test_data_survive_a_close(store: SqliteStore, path: Path) -> None:
    """Of course; and the log file is gone."""
    add(store, 1)
    await store.close()

    assert rows(path) == [1]


def test_data_of_a_newer_version_are_refused_untouched(path: Path) -> None:
    """With a sentence and the remedy."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StartupError, match="newer version") as refused:
        SqliteStore(path)

    assert refused.value.remedy
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """And stays as it is."""
    path.write_bytes(b"my thesis" * 1000)

    with pytest.raises(StartupError, match="cannot be opened"):
        SqliteStore(path)

    assert path.read_bytes() == b"my thesis" * 1000


@pytest.mark.parametrize("where", ["missing/test.db", "file/test.db"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    """Not a traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(StartupError, match=where.partition("/")[0]):
        SqliteStore(tmp_path / where)


async def test_a_full_disk_is_temporary_and_loses_nothing_that_was_answered(
    store: SqliteStore, path: Path
) -> None:
    """What was stored stays; what was refused is not there; with room it goes on."""
    add(store, 1)
    await store.committed()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = size_of(Path(f"{path}-wal"))
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, hard))
    try:
        store.write("INSERT INTO t VALUES (2, ?)", ("x" * 1_000_000,))
        with pytest.raises(TemporaryError):
            await store.committed()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert rows(path) == [1]

    add(store, 3)
    await store.flush()

    assert rows(path) == [1, 3]


_CHILD = """
import asyncio, sys
from pathlib import Path
from shared.adapters.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    store.connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    number = 0
    while True:
        number += 1
        store.write("INSERT INTO t VALUES (?)", (number,))
        await store.committed()
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """Every number that the dead process told is there."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child, child.stdout as told:
        for _ in range(300):
            told.readline()
        child.send_signal(signal.SIGKILL)
        last = [int(line) for line in told.read().split()][-1:] or [300]

    assert rows(path)[: last[0]] == list(range(1, last[0] + 1))


async def test_the_log_file_stays_short_under_constant_writing(path: Path) -> None:
    """It is copied beside the work and begun anew, although there is never a quiet moment.

    On a disk that is slow that takes its time, so the writing goes on until it has happened.
    """
    store = SqliteStore(path)
    store.connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    blob = b"x" * 3_000
    longest = written = 0
    while written < 6_000 or longest >= size_of(path):
        store.write("INSERT INTO t VALUES (?, ?)", (written, blob))
        await store.committed()
        written += 1
        longest = max(longest, size_of(Path(f"{path}-wal")))
    await store.close()

    assert rows(path) == list(range(written))
