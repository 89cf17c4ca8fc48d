"""The output of pods, as their process 1 wrote it into their logs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.api import Answer, ApiServer
from shared.adapters.kubernetes.frames import Frame, Lines

_SILENCE_SECONDS: Final = 15.0
"""Three times what process 1 lets pass without a word."""
_OLD_ONES_AT_ONCE: Final = 16


Take = Callable[[Frame], Awaitable[bool]]
"""Is given a frame, and says whether it wants more."""


class Logs(Protocol):
    """The output of pods."""

    async def read(self, name: str, take: Take, *, is_over: bool) -> bool:
        """Hand over every frame from the first one on, and follow it unless its container is over.

        Returns False where there is no log to be had: not yet, or not any more.

        Raises:
            TemporaryError: It broke off.
        """


class PodLogs:
    """Reads the log of a pod's one container."""

    def __init__(self, api: ApiServer, pods: str) -> None:
        """Read below `pods`, the path of the collection."""
        self._api = api
        self._pods = pods
        self._few = asyncio.Semaphore(_OLD_ONES_AT_ONCE)

    async def read(self, name: str, take: Take, *, is_over: bool) -> bool:
        """Hand over every frame; False where there is no log, not yet or not any more.

        Raises:
            TemporaryError: It broke off.
        """
        if not is_over:
            return await self._read(name, take, follow="true")
        async with self._few:
            return await self._read(name, take, follow="false")

    async def _read(self, name: str, take: Take, *, follow: str) -> bool:
        lines = Lines()
        try:
            async with self._api.stream(
                f"{self._pods}/{name}/log",
                silence=_SILENCE_SECONDS,
                container=objects.CONTAINER,
                follow=follow,
            ) as chunks:
                async for data in chunks:
                    for frame in lines.feed(data):
                        if not await take(frame):
                            return True
        except Answer:
            return False
        return True
