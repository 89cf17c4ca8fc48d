"""One connection that listens to many channels, and comes back when it was cut."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock

_QUIET = timedelta(seconds=30)
"""After a silence of this length the connection is asked whether it is still there."""
_FIRST_PAUSE = timedelta(milliseconds=50)
_LONGEST_PAUSE = timedelta(seconds=1)
_KEPT_MESSAGES = 10_000
"""What waits for a slow reader; beyond it the oldest are dropped, as a signal may be."""


class RedisSubscription:
    """A set of channels over one connection.

    One task owns the connection: it alone connects and reads, callers only write commands and wait
    until it has seen their confirmation. A channel whose `add` failed because Redis is away stays
    wanted, and is listened to as soon as Redis is back, until it is removed.
    """

    def __init__(self, pool: ConnectionPool, *, clock: Clock, patience: timedelta) -> None:
        """Listen to nothing yet; the first `add` connects."""
        self._pool = pool
        self._clock = clock
        self._patience = patience
        self._wanted: set[str] = set()
        self._unconfirmed: Counter[str] = Counter()
        self._heard: set[str] = set()
        self._changed = asyncio.Event()
        self._messages: deque[tuple[str, bytes]] = deque(maxlen=_KEPT_MESSAGES)
        self._arrived = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def add(self, channel: str) -> None:
        """Listen to one more channel; messages published after this returned are seen.

        Raises:
            TemporaryError: No confirmation in time; it is asked for again after a reconnect.
        """
        if self._closed:
            raise TemporaryError("the subscription is closed")
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="redis-subscription")
        if channel not in self._wanted:
            self._wanted.add(channel)
            await self._send("SUBSCRIBE", channel)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await self._confirmation(channel)
        except TimeoutError as error:
            raise TemporaryError(f"Redis did not confirm the channel {channel}") from error

    async def _confirmation(self, channel: str) -> None:
        while channel in self._wanted and channel not in self._heard:
            await self._changed.wait()

    async def remove(self, channel: str) -> None:
        """Stop listening to a channel."""
        if channel in self._wanted:
            self._wanted.discard(channel)
            self._heard.discard(channel)
            self._tell()
            await self._send("UNSUBSCRIBE", channel)

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            while self._messages:
                yield self._messages.popleft()
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def close(self) -> None:
        """End the iteration and free the connection."""
        self._closed = True
        self._wanted.clear()
        self._tell()
        self._arrived.set()
        reader, self._reader = self._reader, None
        while reader is not None and not reader.done():
            # Again and again: the driver loses a cancellation that comes together with the end of
            # one of its own time limits, as it does when the event loop was busy for longer.
            reader.cancel()
            await asyncio.wait({reader}, timeout=self._patience.total_seconds())

    async def _send(self, command: str, *channels: str) -> None:
        """Write a command; where there is no connection, the next one asks for what is wanted."""
        connection = self._connection
        if connection is None or not channels:
            return
        if command == "SUBSCRIBE":
            self._unconfirmed.update(channels)
        # A broken connection is noticed by the reader, who replaces it. The reader may give it up
        # while this is on its way: then the driver trips over a writer that is gone or closed.
        with suppress(RedisError, OSError, AttributeError, RuntimeError):
            await connection.send_command(command, *channels)

    async def _read(self) -> None:
        """Connect, listen until the connection breaks, and again."""
        pause = _FIRST_PAUSE
        while True:
            with suppress(RedisError, OSError, TimeoutError):
                # Not borrowed: the pool is for commands, and small.
                connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                try:
                    await connection.connect()  # type: ignore[no-untyped-call]
                    self._connection = connection
                    await self._send("SUBSCRIBE", *self._wanted)
                    pause = _FIRST_PAUSE
                    await self._listen(connection)
                finally:
                    await self._forget(connection)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _forget(self, connection: AbstractConnection) -> None:
        self._connection = None
        self._unconfirmed.clear()
        self._heard.clear()
        await connection.disconnect(nowait=True)

    async def _listen(self, connection: AbstractConnection) -> None:
        """Take in what comes; return once the connection is silent even when asked."""
        asked = False
        while True:
            patience = self._patience if asked else _QUIET
            reply = await connection.read_response(timeout=patience.total_seconds())
            if reply is not None:
                asked = False
                self._take(reply)
            elif asked:
                return
            else:
                asked = True
                await connection.send_command("PING")

    def _take(self, reply: Any) -> None:
        """Sort one reply of the server: a message, a confirmation, or the answer to a PING."""
        match reply:
            case [b"message", bytes(channel), bytes(message)]:
                self._messages.append((channel.decode(), message))
                self._arrived.set()
            case [b"subscribe", bytes(channel), _]:
                self._confirm(channel.decode())

    def _confirm(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        # An earlier confirmation may belong to a subscription that was given up meanwhile.
        if self._unconfirmed[channel] <= 0:
            del self._unconfirmed[channel]
            if channel in self._wanted:
                self._heard.add(channel)
                self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for a confirmation."""
        self._changed.set()
        self._changed = asyncio.Event()
