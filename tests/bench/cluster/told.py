"""What streams are told: the last link of the chain from a request to whoever follows it."""

import asyncio
from contextlib import suppress
from typing import Any, Self

import orjson
from redis.asyncio import Redis

from tests.bench.cluster.tail import RESULT

_CHANNELS = "sse:exec:"
_SECONDS = 60.0


class Told:
    """Results that streams were told of from now on; `open` it.

    A result is told only after all that belongs before it is stored, so whatever lags behind is
    part of what is measured with it.
    """

    def __init__(self, redis: Redis) -> None:
        """Prepare; nothing is heard yet."""
        self._redis = redis
        self._ends: dict[str, asyncio.Future[str]] = {}
        self._hearing: asyncio.Task[None]

    @classmethod
    async def open(cls, url: str) -> Self:
        """Return it once nothing that is told from now on can be missed."""
        told = cls(Redis.from_url(url))
        channels = told._redis.pubsub(ignore_subscribe_messages=False)
        await channels.psubscribe(f"{_CHANNELS}*")
        await channels.get_message(timeout=_SECONDS)
        told._hearing = asyncio.create_task(told._hear(channels))
        return told

    async def result(self, execution_id: str) -> str:
        """Return how an execution ended, as soon as its streams are told.

        Raises:
            TimeoutError: They are not.
            redis.RedisError: Nothing can be heard any more.
        """
        end = self._end(execution_id)
        try:
            either: set[asyncio.Future[Any]] = {end, self._hearing}
            await asyncio.wait(either, timeout=_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._hearing.done():
                self._hearing.result()
            if not end.done():
                raise TimeoutError(f"streams of {execution_id} are not told of its result")
            return end.result()
        finally:
            self._ends.pop(execution_id, None)

    async def close(self) -> None:
        """Hear no more."""
        self._hearing.cancel()
        with suppress(asyncio.CancelledError):
            await self._hearing
        await self._redis.aclose()

    def _end(self, execution_id: str) -> "asyncio.Future[str]":
        if execution_id not in self._ends:
            self._ends[execution_id] = asyncio.get_running_loop().create_future()
        return self._ends[execution_id]

    async def _hear(self, channels: Any) -> None:
        async for message in channels.listen():
            if message["type"] != "pmessage" or RESULT.encode() not in message["data"]:
                continue
            event = orjson.loads(message["data"])["event"]
            end = self._end(message["channel"].decode().removeprefix(_CHANNELS))
            if event["event_type"] == RESULT and not end.done():
                end.set_result(event["data"]["status"])
