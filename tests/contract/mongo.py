"""MongoDB for suites: each factory has a database of its own, which goes when it is closed."""

import os

import pytest

from shared.adapters.mongo.documents import MongoDocuments
from shared.adapters.mongo.indexes import apply_indexes
from shared.adapters.mongo.store import MongoOptions, MongoStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.ports.clock import Clock
from shared.ports.documents import Collection


def mongo_url() -> str:
    """Return the address of the server; a test that needs it fails where none is named."""
    url = os.environ.get("INTEGR8S_MONGO_URL", "")  # noqa: TID251 - where the engine is
    if not url:
        pytest.fail("INTEGR8S_MONGO_URL names no MongoDB: ./taskw engines start mongo")
    return url


def fresh_database(url: str) -> MongoOptions:
    """Return a database that nobody has used."""
    return MongoOptions(url=url, database=f"test_{SystemIds().new().replace('-', '')}")


class MongoDatabase:
    """One database. To the server a killed process is a client that is never heard of again."""

    def __init__(self, url: str) -> None:
        self.options = fresh_database(url)
        self.clock: Clock = SystemClock()
        self.indexed: set[str] = set()
        self.stores: list[MongoStore] = []

    def store(self) -> MongoStore:
        """Return the store of the present generation."""
        if not self.stores:
            self.stores.append(MongoStore(self.options))
        return self.stores[-1]

    async def __call__(self, collection: Collection) -> MongoDocuments:
        """Open a collection, with its indexes."""
        if collection.name not in self.indexed:
            await apply_indexes(self.options, [collection])
            self.indexed.add(collection.name)
        return MongoDocuments(self.store(), collection, self.clock)

    async def kill(self) -> None:
        """Go on with another client, without a word from the first."""
        self.stores.append(MongoStore(self.options))

    async def close(self) -> None:
        """Drop the database, and close every client."""
        database = self.store().database
        await database.client.drop_database(database)
        for store in self.stores:
            await store.close()
