"""One client of one database, for all collections of a process."""

import asyncio
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidName, InvalidURI, PyMongoError
from pymongo.read_concern import ReadConcern

from shared.adapters.mongo.errors import (
    REFUSED_REMEDY,
    driver_errors,
    is_misfit,
    is_refusal,
    sentence,
)
from shared.adapters.mongo.values import CODEC
from shared.domain.errors import StartupError
from shared.ports.documents import Document

READ_CONCERN = ReadConcern("majority")
PATIENCE = timedelta(seconds=5)
"""How long one call waits for a server, and for its answer, in all."""
_URL_REMEDY = (
    "Write INTEGR8S_MONGO_URL as mongodb://user:password@host:27017/?options; what is no letter or"
    " digit in the password as %40 for @, and so on."
)
_ASKED = "executions"
_USER_PART = re.compile(r"//[^/]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoOptions:
    """Where the documents are, and how long to wait for them."""

    url: str = field(repr=False)
    """`mongodb://user:password@host:port/?options`, or `mongodb+srv://`. Users, TLS, replica set
    and compression are taken from it; concerns, time limits and the size of the pool are ours."""
    database: str = "integr8s"
    patience: timedelta = PATIENCE
    connections: int = 16
    """Most connections of this process for calls; one more watches each server."""


class MongoStore:
    """A database as this process reaches it.

    What is answered is on the disks of a majority of the replica set, and nothing is read that a
    majority might lose: after a change of primary nobody has seen what never was. On a single
    server both mean its own disk.
    """

    def __init__(self, options: MongoOptions) -> None:
        """Prepare; nothing is connected before the first call.

        Raises:
            StartupError: The URL is not one, or the database's name is none.
        """
        self._place = _USER_PART.sub("//", options.url).partition("?")[0]
        self._has_answered = False
        self._patience = options.patience.total_seconds()
        try:
            self._client: AsyncMongoClient[Document] = _client(options)
            self.database: AsyncDatabase[Document] = self._client.get_database(
                options.database,
                codec_options=CODEC,
                read_preference=ReadPreference.PRIMARY,
                write_concern=WriteConcern(w="majority", j=True),
                read_concern=READ_CONCERN,
            )
        except InvalidName as error:
            message = f"{options.database!r} is no name of a database: {error}."
            raise StartupError(message, remedy="Correct INTEGR8S_MONGO_DATABASE.") from error
        except (InvalidURI, ValueError):
            message = "The address of MongoDB is no URL of one."
            # Without what the driver says: it shows a password that was misread as a port.
            raise StartupError(message, remedy=_URL_REMEDY) from None
        except (ConfigurationError, UserWarning) as error:
            message = f"The options in MongoDB's URL cannot be used: {sentence(error)}."
            raise StartupError(message, remedy=_URL_REMEDY) from error

    def collection(self, name: str) -> AsyncCollection[Document]:
        """Return the driver's view of a collection."""
        return self.database[name]

    @asynccontextmanager
    async def asked(self, what: str) -> AsyncIterator[None]:
        """Bound the time of a question to the database, and tell of errors in our words.

        The driver's own bound for all of a question (`timeoutMS`) is no help behind an outage:
        there is always a question whose time is up while it has a connection made, and with each
        of those the driver gave its pool up and began anew, several times a second and for half a
        minute after the server was back.

        Raises:
            AlreadyExists: The key, or a unique index, is taken.
            PermanentError: The document is too large, or cannot be written as it is.
            EngineAway: No answer in time, or one that may be another one later.
        """
        with driver_errors(what):
            try:
                async with asyncio.timeout(self._patience):
                    yield
            except TimeoutError:
                raise TimeoutError(f"none in {self._patience:g} s") from None

    async def ping(self) -> None:
        """Return if the database answers, and lets us read.

        Raises:
            StartupError: It refuses this process, and has never served it before.
            TemporaryError: No answer in time.
        """
        async with self.asked(f"ping {self._place}"):
            try:
                # A read, not the command of that name: that one is answered without any right.
                await self.collection(_ASKED).find_one({"_id": ""}, {"_id": 1})
            except PyMongoError as error:
                # Who served us before has changed its mind, and may change it back: then nothing
                # is lost by waiting.
                if not self._has_answered and (is_refusal(error) or is_misfit(error)):
                    raise self._refused(error) from error
                raise
        self._has_answered = True

    def _refused(self, error: PyMongoError) -> StartupError:
        message = f"MongoDB at {self._place} does not serve this process: {sentence(error)}."
        return StartupError(message, remedy=REFUSED_REMEDY if is_refusal(error) else _URL_REMEDY)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _client(options: MongoOptions) -> AsyncMongoClient[Document]:
    milliseconds = int(options.patience / timedelta(milliseconds=1))
    with warnings.catch_warnings():
        # The driver only warns of an option that it does not understand, and goes on without.
        warnings.simplefilter("error", UserWarning)
        return AsyncMongoClient(
            options.url,
            appname="integr8s",
            connectTimeoutMS=milliseconds,
            serverSelectionTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
            maxPoolSize=options.connections,
            # Asked now and then whether it is still there, a server needs one connection for that;
            # told at once of every change, two. Our calls notice a change themselves.
            serverMonitoringMode="poll",
        )
