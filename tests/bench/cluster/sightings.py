"""What a watch of the API server shows of the pods of one namespace, and when."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import Any, Self

import orjson

from shared.adapters.kubernetes.api import ApiServer
from shared.domain.errors import Integr8sError
from tests.ledger import pause

_ENDED = ("Succeeded", "Failed")
_SILENCE_SECONDS = 600
_AGAIN_SECONDS = 0.1


@dataclass(slots=True)
class Sighting:
    """One pod; every instant is when the watch showed it, by the wall clock."""

    name: str
    component: str
    """What it is of ours, by its label."""
    made_at: float
    bound_at: float = 0.0
    """A node was chosen for it."""
    running_at: float = 0.0
    ready_at: float = 0.0
    ended_at: float = 0.0
    phase: str = ""

    def note(self, pod: dict[str, Any], at: float) -> None:
        """Take over what is new."""
        self.phase = pod["status"].get("phase", "")
        self.bound_at = self.bound_at or (at if pod["spec"].get("nodeName") else 0.0)
        self.running_at = self.running_at or (at if self.phase == "Running" else 0.0)
        self.ready_at = self.ready_at or (at if _is_ready(pod) else 0.0)
        self.ended_at = self.ended_at or (at if self.phase in _ENDED else 0.0)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@dataclass(slots=True)
class PodWatch:
    """Follows every pod of a namespace from now on; `open` it."""

    api: ApiServer
    path: str
    seen: dict[str, Sighting] = field(default_factory=dict)
    awaited: "dict[str, asyncio.Future[Sighting]]" = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None

    @classmethod
    async def open(cls, api: ApiServer, namespace: str) -> Self:
        """Begin to watch a namespace, which must be there."""
        watch = cls(api, f"/api/v1/namespaces/{namespace}/pods")
        version = await watch._list()
        watch.task = asyncio.create_task(watch._follow(version))
        return watch

    async def ended(self, name: str, seconds: float) -> Sighting:
        """Return a pod as soon as the watch shows that it ended.

        Raises:
            TimeoutError: It does not.
        """
        seen = self.seen.get(name)
        if seen is not None and seen.ended_at:
            return seen
        awaited: asyncio.Future[Sighting] = asyncio.get_running_loop().create_future()
        self.awaited[name] = awaited
        try:
            async with asyncio.timeout(seconds):
                return await awaited
        finally:
            del self.awaited[name]

    def made_since(self, at: float) -> Sequence[Sighting]:
        """Return the pods that were made after an instant."""
        return [one for one in self.seen.values() if one.made_at >= at]

    async def close(self) -> None:
        """Look no more."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def _follow(self, version: str) -> None:
        while True:
            with suppress(Integr8sError):
                await self._watch(version)
            await pause(_AGAIN_SECONDS)
            with suppress(Integr8sError):
                version = await self._list()

    async def _list(self) -> str:
        listed = await self.api.call("GET", self.path)
        for pod in listed["items"]:
            self._note(pod)
        version: str = listed["metadata"]["resourceVersion"]
        return version

    async def _watch(self, version: str) -> None:
        asked = {"resourceVersion": version, "watch": "true"}
        async with self.api.stream(self.path, silence=_SILENCE_SECONDS, **asked) as parts:
            async for line in _lines(parts):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return
                self._note(event["object"])

    def _note(self, pod: dict[str, Any]) -> None:
        name, at = pod["metadata"]["name"], time()
        if name not in self.seen:
            component = pod["metadata"].get("labels", {}).get("component", "")
            self.seen[name] = Sighting(name, component, at)
        seen = self.seen[name]
        seen.note(pod, at)
        awaited = self.awaited.get(name)
        if seen.ended_at and awaited is not None and not awaited.done():
            awaited.set_result(seen)


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
