"""The one connection: operations of one turn of the event loop share one commit.

SQLite runs in the event loop's own thread. A statement on a page in memory takes some ten
microseconds, a hop to another thread and back ten times that, and an execution needs some forty
statements one after the other. What can be slow never runs here: waiting for the disk (`flush`) and
moving the write-ahead log into the main file (`_checkpoint`) happen in a thread of their own.

Durability: a commit writes to the write-ahead log without waiting for the disk, which survives the
death of the process. `flush` waits until the log file is on the disk. Log and documents share the
file, so loss of power cuts both at the same commit and leaves no state without its events.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shared.domain.errors import StartupError, TemporaryError

SCHEMA_VERSION = 1
_COMMITS_PER_CHECKPOINT = 1024
"""Some 40 MiB of log, as executions write it."""


class SqliteStore:
    """A database in a file, or in memory (`path` None) where nothing needs to survive."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the database, and make it if it is not there.

        Raises:
            StartupError: The file cannot be opened, or was written by a newer version.
        """
        self._path = path
        self._waiters: list[asyncio.Future[None]] | None = None
        """Who waits for the open batch to be committed; None while there is no batch."""
        self._loop_of_batch: asyncio.AbstractEventLoop
        self._on_commit: list[Callable[[], None]] = []
        self._on_abort: list[Callable[[], None]] = []
        self._flushing: asyncio.Future[None] | None = None
        self._flush_again: asyncio.Future[None] | None = None
        self._wal: int | None = None
        self._main: int | None = None
        self._commits = 0
        self._is_log_copied = False
        self._checkpointing: asyncio.Future[Any] | None = None
        self._disk: ThreadPoolExecutor | None = None
        try:
            self.connection = sqlite3.connect(path or ":memory:", isolation_level=None)
            try:
                self._configure()
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            message = f"The database {path} cannot be opened: {error}."
            raise StartupError(
                message, remedy="Check that the data directory is writable and not full."
            ) from error

    def _configure(self) -> None:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            message = (
                f"The data in {self._path} was written by a newer version of integr8s"
                f" (format {version}, this one knows {SCHEMA_VERSION})."
            )
            raise StartupError(
                message, remedy="Upgrade integr8s, or choose another INTEGR8S_DATA_DIR."
            )
        if self._path is not None:
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=NORMAL")
            self.connection.execute("PRAGMA wal_autocheckpoint=0")
        self.connection.execute("PRAGMA cache_size=-16384")
        self.connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        if self._path is not None:
            self._open_wal(self._path)

    def _open_wal(self, path: Path) -> None:
        # Writing the version above made sure that the file exists; SQLite keeps it until the last
        # connection closes.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._wal = os.open(f"{path}-wal", os.O_RDWR)
        # Kept open as long as the connection: closing it would drop SQLite's own locks on the file.
        self._main = os.open(path, os.O_RDWR)
        # Two: nobody's flush waits behind a checkpoint.
        self._disk = ThreadPoolExecutor(2, thread_name_prefix="sqlite-disk")

    def query(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run a reading statement; it sees everything written so far."""
        try:
            return self.connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise TemporaryError(f"the database did not answer: {error}") from error

    def write(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run a writing statement in the current batch; `committed` tells when it is stored.

        Raises:
            sqlite3.IntegrityError: A unique key is taken; the rest of the batch is untouched.
            TemporaryError: The disk is full or failing; the whole batch is gone.
        """
        self._begin()
        try:
            return self.connection.execute(sql, parameters)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            self._abort(error)
            raise TemporaryError(f"the database could not write: {error}") from error

    def write_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one writing statement for many rows in the current batch.

        Raises:
            TemporaryError: The disk is full or failing; the whole batch is gone.
        """
        self._begin()
        try:
            self.connection.executemany(sql, rows)
        except sqlite3.Error as error:
            self._abort(error)
            raise TemporaryError(f"the database could not write: {error}") from error

    def after_commit(self, act: Callable[[], None], undo: Callable[[], None]) -> None:
        """Call `act` once the current batch is stored, or `undo` if it is lost."""
        self._begin()
        self._on_commit.append(act)
        self._on_abort.append(undo)

    async def committed(self) -> None:
        """Wait until everything written so far is committed.

        Raises:
            TemporaryError: The commit failed; nothing of the batch was stored.
        """
        if self._waiters is None:
            return
        # One of its own for each: who is cancelled takes nobody along.
        waiter = self._loop_of_batch.create_future()
        self._waiters.append(waiter)
        await waiter

    def _begin(self) -> None:
        if self._waiters is not None:
            return
        try:
            if self.connection.in_transaction:
                # A disk that fails can refuse the rollback too; without another try it would be the
                # last transaction of this process.
                self.connection.execute("ROLLBACK")
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise TemporaryError(f"the database could not begin: {error}") from error
        self._waiters = []
        self._loop_of_batch = asyncio.get_running_loop()
        self._loop_of_batch.call_soon(self._commit)

    def _commit(self) -> None:
        if self._waiters is None:
            return
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._abort(error)
            return
        waiters, self._waiters = self._waiters, None
        acts, self._on_commit, self._on_abort = self._on_commit, [], []
        for act in acts:
            act()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._checkpoint_if_due()

    def _abort(self, error: sqlite3.Error) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute("ROLLBACK")
        if self._waiters is None:
            return
        waiters, self._waiters = self._waiters, None
        undos, self._on_abort, self._on_commit = self._on_abort, [], []
        for undo in reversed(undos):
            undo()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(TemporaryError(f"the database could not commit: {error}"))

    async def flush(self) -> None:
        """Return once everything written so far is on the disk. Callers share one wait.

        Raises:
            TemporaryError: The disk failed.
        """
        await self.committed()
        if self._wal is None:
            return
        # A sync that is under way may have begun before our commit: wait for the next one.
        if self._flushing is None:
            self._flushing = asyncio.ensure_future(self._sync())
            await asyncio.shield(self._flushing)
            return
        if self._flush_again is None:
            self._flush_again = asyncio.ensure_future(self._sync_after(self._flushing))
        await asyncio.shield(self._flush_again)

    async def _sync_after(self, earlier: "asyncio.Future[None]") -> None:
        with contextlib.suppress(TemporaryError):
            await asyncio.shield(earlier)
        self._flushing, self._flush_again = self._flush_again, None
        await self._sync()

    async def _sync(self) -> None:
        wal, disk = self._wal, self._disk
        if wal is None or disk is None:
            return
        mine = self._flushing
        try:
            await asyncio.get_running_loop().run_in_executor(disk, os.fdatasync, wal)
        except OSError as error:
            raise TemporaryError(f"the disk could not be written: {error}") from error
        finally:
            if self._flushing is mine:
                self._flushing = None

    def _checkpoint_if_due(self) -> None:
        """Keep the log short: copied in another thread, then begun anew from here.

        Only at an instant without unread frames does SQLite write from the log's beginning again.
        Under constant load that never comes by itself; here nothing else is being written.
        """
        if self._path is None or self._disk is None or self._main is None:
            return
        if self._checkpointing is not None:
            return
        if self._is_log_copied:
            self._is_log_copied = False
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(RESTART)")
            return
        self._commits += 1
        if self._commits % _COMMITS_PER_CHECKPOINT:
            return
        loop = asyncio.get_running_loop()
        self._checkpointing = loop.run_in_executor(self._disk, _checkpoint, self._path, self._main)
        self._checkpointing.add_done_callback(self._checkpointed)

    def _checkpointed(self, done: "asyncio.Future[Any]") -> None:
        self._checkpointing = None
        self._is_log_copied = not done.cancelled() and done.exception() is None

    async def close(self) -> None:
        """Commit, move the log into the main file, and close."""
        with contextlib.suppress(TemporaryError):
            await self.flush()
        if self._checkpointing is not None:
            with contextlib.suppress(sqlite3.Error):
                await self._checkpointing
        if self._disk is not None:
            self._disk.shutdown()
        self.connection.close()
        for handle in (self._wal, self._main):
            if handle is not None:
                os.close(handle)
        self._wal = self._main = None


def _checkpoint(path: Path, main: int) -> None:
    """Move the write-ahead log into the main file without stopping writers, in another thread.

    SQLite syncs the main file only once all of the log is in it; synced here, what is left to do
    then is little.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=1)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        os.fdatasync(main)
    finally:
        connection.close()
