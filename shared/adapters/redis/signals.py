"""Signals on Redis: what may be forgotten at any moment."""

import ssl
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from shared.adapters.redis.network import CA_REMEDY, pool_of
from shared.adapters.redis.subscription import RedisSubscription
from shared.domain.errors import StartupError, TemporaryError
from shared.ports.clock import Clock

PATIENCE = timedelta(milliseconds=50)
"""How long an answer may take: signals only save time, so waiting for them must not cost any."""
NETWORK_PATIENCE = timedelta(milliseconds=250)
"""The same across a network, where one lost packet alone costs 200 ms."""
CONNECT_PATIENCE = timedelta(seconds=1)
"""How long connecting across a network may take: name, TLS and password come on top."""
_REFUSALS = (AuthenticationError, NoPermissionError, ssl.SSLCertVerificationError)
_LOGIN_REMEDY = "Correct user and password in INTEGR8S_REDIS_URL, or the rights of that user."


class RedisSignals:
    """Signals on one Redis.

    Commands share a small pool; each subscription has a connection of its own. Nothing is tried
    twice here: one layer retries, and that is the caller's.
    """

    def __init__(
        self,
        client: Redis,
        *,
        clock: Clock,
        patience: timedelta = PATIENCE,
        connect_patience: timedelta = timedelta(0),
    ) -> None:
        """Use a client that somebody configured; `connect` makes the usual one.

        A subscription waits for a connection and for an answer, each with its own patience.
        """
        self._client = client
        self._clock = clock
        self._patience = patience + connect_patience
        self._has_answered = False
        self._subscriptions: set[RedisSubscription] = set()

    @classmethod
    def connect(
        cls,
        address: str | Path,
        *,
        clock: Clock,
        patience: timedelta | None = None,
        connections: int = 8,
        ca_file: Path | None = None,
    ) -> "RedisSignals":
        """Use the Redis at a URL (`redis://...`, `rediss://...`) or at the path of a unix socket.

        Opens nothing yet; the first command does. A certificate is checked by `ca_file`, without
        one by the authorities of the system.

        Raises:
            StartupError: The URL is not one, or there is no such file.
        """
        if isinstance(address, str):
            answer, connect = patience or NETWORK_PATIENCE, patience or CONNECT_PATIENCE
            limits = _limits(answer, connect, connections)
            client = Redis.from_pool(pool_of(address, ca_file=ca_file, **limits))
            return cls(client, clock=clock, patience=answer, connect_patience=connect)
        patience = patience or PATIENCE
        pool = BlockingConnectionPool(
            connection_class=UnixDomainSocketConnection,
            path=str(address),
            **_limits(patience, patience, connections),
        )
        return cls(Redis.from_pool(pool), clock=clock, patience=patience)

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell whoever listens right now."""
        with _errors("publish"):
            await self._client.publish(channel, message)

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish several `(channel, message)` in this order, in one round trip."""
        with _errors("publish_all"):
            pipeline = self._client.pipeline(transaction=False)
            for channel, message in messages:
                pipeline.publish(channel, message)
            await pipeline.execute()

    def subscribe(self) -> RedisSubscription:
        """Open a subscription without channels, with a connection of its own."""
        subscription = RedisSubscription(
            self._client.connection_pool, clock=self._clock, patience=self._patience
        )
        self._subscriptions.add(subscription)
        return subscription

    async def increment(self, key: str, *, expires: timedelta) -> int:
        """Count one up and return the count; the first one starts the expiry."""
        with _errors("increment"):
            async with self._client.pipeline(transaction=True) as transaction:
                # A counter without expiry would lock somebody out for ever, so both or neither.
                transaction.set(key, 0, px=expires, nx=True)
                transaction.incr(key)
                _, count = await transaction.execute()
        return int(count)

    async def set_if_absent(self, key: str, value: bytes, *, expires: timedelta) -> bool:
        """Set a value unless there is one; say whether this call set it."""
        with _errors("set_if_absent"):
            return bool(await self._client.set(key, value, px=expires, nx=True))

    async def put(self, key: str, value: bytes, *, expires: timedelta) -> None:
        """Set a value."""
        with _errors("put"):
            await self._client.set(key, value, px=expires)

    async def get(self, key: str) -> bytes | None:
        """Return a value, or None."""
        with _errors("get"):
            return cast("bytes | None", await self._client.get(key))

    async def take(self, key: str) -> bytes | None:
        """Return a value and remove it, atomically: of racing callers one gets it."""
        with _errors("take"):
            async with self._client.pipeline(transaction=True) as transaction:
                # GETDEL would do, but a machine's own server may be older than 6.2.
                transaction.get(key)
                transaction.delete(key)
                value, _ = await transaction.execute()
        return cast("bytes | None", value)

    async def delete(self, key: str) -> None:
        """Remove a value; a missing one is success."""
        with _errors("delete"):
            await self._client.delete(key)

    async def ping(self) -> None:
        """Return if the engine answers.

        Raises:
            StartupError: It refuses this process, and has never served it before.
            TemporaryError: It gave no answer, or has changed its mind.
        """
        with _errors("ping"):
            try:
                await cast("Awaitable[bool]", self._client.ping())
            except RedisError as error:
                if not self._has_answered:
                    _refuse(error)
                raise
        self._has_answered = True

    async def close(self) -> None:
        """End every subscription and close every connection."""
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await self._client.aclose(close_connection_pool=True)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        TemporaryError: Redis is away, slow, full, or still starting.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise TemporaryError(f"{what}: Redis gave no answer ({error})") from error


def _limits(answer: timedelta, connect: timedelta, connections: int) -> dict[str, Any]:
    """Return what bounds the waiting of a pool."""
    return {
        "max_connections": connections,
        "timeout": answer.total_seconds(),
        "socket_timeout": answer.total_seconds(),
        "socket_connect_timeout": connect.total_seconds(),
        "retry": Retry(NoBackoff(), 0),
    }


def _refuse(error: RedisError) -> None:
    """Look for what no waiting can heal, behind the driver's error too.

    Raises:
        StartupError: Redis does not know this process, or is not who it should be.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _REFUSALS):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        message = f"The certificate of Redis is not trusted: {cause.verify_message}."
        raise StartupError(message, remedy=CA_REMEDY) from error
    if cause is not None:
        message = f"Redis refuses this process: {str(cause).rstrip('.')}."
        raise StartupError(message, remedy=_LOGIN_REMEDY) from error
