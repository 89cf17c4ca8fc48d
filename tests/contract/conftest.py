"""Engines for the contract suites of documents and log."""

import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.system.clock import SystemClock
from shared.ports.clock import Clock
from shared.ports.documents import Collection
from tests.contract.engines import DocumentsFactory, EventLogFactory


class SqliteFile:
    """One database; a kill goes on with a copy of its files, as they lie on the disk just then."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.clock: Clock = SystemClock()
        self.generation = 0
        self.stores: list[SqliteStore] = []

    def store(self) -> SqliteStore:
        """Return the store of the present generation."""
        if not self.stores:
            self.stores.append(SqliteStore(self._path()))
        return self.stores[-1]

    def _path(self) -> Path | None:
        if self.folder is None:
            return None
        generation = self.folder / str(self.generation)
        generation.mkdir(exist_ok=True)
        return generation / "integr8s.db"

    async def kill(self) -> None:
        """Open a copy of the files that exist at this moment, without closing anything."""
        if self.folder is None:
            pytest.skip("a database in memory dies with its process")
        shutil.copytree(self.folder / str(self.generation), self.folder / str(self.generation + 1))
        self.generation += 1
        self.stores.append(SqliteStore(self._path()))

    async def close(self) -> None:
        """Close every store that was opened."""
        for store in self.stores:
            await store.close()


class SqliteDocumentsFactory(SqliteFile):
    """Collections in SQLite."""

    async def __call__(self, collection: Collection) -> SqliteDocuments:
        """Open a collection."""
        return SqliteDocuments(self.store(), collection, self.clock)


class SqliteEventLogFactory(SqliteFile):
    """The log in SQLite; one log a process, as members live in it."""

    quiet = timedelta(milliseconds=50)

    async def __call__(self) -> SqliteEventLog:
        """Open the log."""
        return SqliteEventLog(self.store(), self.clock)


def fresh_folders(engine: str, parent: Path) -> Callable[[], Path | None]:
    """Return a maker of fresh folders; of None where the database is in memory."""
    numbers = itertools.count()

    def fresh() -> Path | None:
        if engine == "sqlite-memory":
            return None
        folder = parent / str(next(numbers))
        folder.mkdir()
        return folder

    return fresh


@pytest.fixture(
    params=["sqlite-memory", "sqlite-file", pytest.param("mongo", marks=pytest.mark.integration)]
)
def new_documents_factory(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[], DocumentsFactory]:
    """Return a maker of empty engines, for suites with an event loop of their own."""
    if request.param == "mongo":
        from tests.contract.mongo import MongoDatabase, mongo_url  # noqa: PLC0415 - needs the driver

        url = mongo_url()
        return lambda: MongoDatabase(url)
    fresh = fresh_folders(request.param, tmp_path)
    return lambda: SqliteDocumentsFactory(fresh())


@pytest.fixture(
    params=["sqlite-memory", "sqlite-file", pytest.param("kafka", marks=pytest.mark.integration)]
)
def new_event_log_factory(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[], EventLogFactory]:
    """Return a maker of empty engines, for suites with an event loop of their own."""
    if request.param == "kafka":
        from tests.contract.kafka import KafkaLogFactory, servers  # noqa: PLC0415 - needs the driver

        known = servers()
        return lambda: KafkaLogFactory(known)
    fresh = fresh_folders(request.param, tmp_path)
    return lambda: SqliteEventLogFactory(fresh())


@pytest.fixture
async def documents_factory(
    new_documents_factory: Callable[[], DocumentsFactory],
) -> AsyncIterator[DocumentsFactory]:
    """Return an empty engine of collections."""
    factory = new_documents_factory()
    yield factory
    await factory.close()


@pytest.fixture
async def event_log_factory(
    new_event_log_factory: Callable[[], EventLogFactory],
) -> AsyncIterator[EventLogFactory]:
    """Return an empty log."""
    factory = new_event_log_factory()
    yield factory
    await factory.close()
