"""A database of its own for every test, on the MongoDB that the environment names."""

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.mongo import MongoDatabase, mongo_url
from tests.integration.mongo.own_server import OwnServer


@pytest.fixture
async def database() -> AsyncIterator[MongoDatabase]:
    """Return an empty database; it goes with the test."""
    database = MongoDatabase(mongo_url())
    yield database
    await database.close()


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """Return a server of this test alone, started."""
    server = OwnServer(tmp_path / "engines")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module", autouse=True)
def _dropped_sockets() -> Iterator[None]:
    """Collect the sockets that the driver drops, before a test elsewhere is blamed for them.

    One whose connecting is cancelled, as closing a client does, is closed by nobody but the
    collector of garbage, which warns of it.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
