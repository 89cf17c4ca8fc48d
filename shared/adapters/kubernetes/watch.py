"""All pods of ours as they change: one list, then one watch, and a tale for each pod."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import httpx2
import orjson

from shared.adapters.kubernetes import evidence, objects
from shared.adapters.kubernetes.api import Answer, ApiServer
from shared.adapters.kubernetes.evidence import Manifest
from shared.adapters.kubernetes.logs import Logs
from shared.adapters.kubernetes.tale import Tale
from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import Pod, PodOutput, PodPhase

_WATCH_SECONDS: Final = 25
"""After this the server ends a watch by itself, so a longer silence is a dead connection."""
_SILENCE_SECONDS: Final = 30.0
_QUEUED: Final = 256


class Watch:
    """One watch from its beginning to its end, with everything that it keeps running."""

    def __init__(
        self, api: ApiServer, pods: str, *, logs: Logs, clock: Clock, told: dict[str, Pod]
    ) -> None:
        """Prepare; `told` holds the ends that were said by any watch of this process."""
        self._api = api
        self._pods = pods
        self._logs = logs
        self._clock = clock
        self._told = told
        self._tales: dict[str, Tale] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._items: asyncio.Queue[Pod | PodOutput] = asyncio.Queue(_QUEUED)
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def items(self) -> AsyncGenerator[Pod | PodOutput]:
        """Yield what is said, for ever.

        Raises:
            TemporaryError: The API server gives no answer, or refuses.
        """
        self._start(self._follow())
        while True:
            yield await self._next()

    async def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if not self._failure.done():
            self._failure.cancel()
        elif not self._failure.cancelled():
            self._failure.exception()

    async def _next(self) -> Pod | PodOutput:
        if self._items.empty():
            getting = asyncio.ensure_future(self._items.get())
            try:
                either: set[asyncio.Future[Any]] = {getting, self._failure}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    return getting.result()
            finally:
                getting.cancel()
            self._failure.result()
        return self._items.get_nowait()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._failure.done():
            return
        error = task.exception()
        if error is not None:
            self._failure.set_exception(error)

    # ------------------------------------------------------------------------- list, then watch

    async def _follow(self) -> None:
        try:
            while True:
                version: str | None = await self._list()
                while version is not None:
                    version = await self._watch(version)
        except Answer as answer:
            raise TemporaryError(f"The API server refuses the watch: {answer}") from answer

    async def _list(self) -> str:
        """Take in every pod as it is now; return from where on to watch."""
        found = await self._api.call("GET", self._pods, labelSelector=objects.SELECTOR)
        present = {evidence.uid_of(pod): pod for pod in found["items"]}
        for uid, tale in list(self._tales.items()):
            if uid not in present:
                self._remove(uid, tale)
        for uid in [uid for uid in self._told if uid not in present]:
            del self._told[uid]  # it went while nobody watched
        for pod in present.values():
            self._take_in(pod)
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str | None:
        """Take in changes until the stream ends; return from where to go on, None to list again.

        A stream that breaks is taken up where it was: only what cannot be opened is an error.
        """
        opened = False
        try:
            async with self._api.stream(
                self._pods,
                silence=_SILENCE_SECONDS,
                labelSelector=objects.SELECTOR,
                watch="true",
                allowWatchBookmarks="true",
                resourceVersion=version,
                timeoutSeconds=_WATCH_SECONDS,
            ) as chunks:
                opened = True
                async for event in _events(chunks):
                    if event["type"] == "ERROR":
                        _refuse_error(event["object"])
                        return None
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    self._apply(event["type"], event["object"])
        except Answer as answer:
            if answer.is_expired:
                return None
            raise
        except TemporaryError:
            if not opened:
                raise
        return version

    def _apply(self, kind: str, pod: Manifest) -> None:
        if kind == "DELETED":
            tale = self._tales.get(evidence.uid_of(pod))
            if tale is not None:
                self._remove(evidence.uid_of(pod), tale, pod)
        elif kind != "BOOKMARK":
            self._take_in(pod)

    # ------------------------------------------------------------------------------------- tales

    def _take_in(self, pod: Manifest) -> None:
        uid = evidence.uid_of(pod)
        tale = self._tales.get(uid)
        if tale is not None:
            tale.update(pod)
            return
        self._tales[uid] = tale = Tale(
            pod, logs=self._logs, clock=self._clock, say=self._say, was_told=uid in self._told
        )
        self._start(tale.tell())

    def _remove(self, uid: str, tale: Tale, pod: Manifest | None = None) -> None:
        del self._tales[uid]
        tale.remove(pod)

    async def _say(self, item: Pod | PodOutput) -> None:
        if isinstance(item, Pod) and item.phase is PodPhase.ENDED:
            self._told[item.uid] = item
        await self._items.put(item)
        if isinstance(item, Pod) and item.deleted:
            self._told.pop(item.uid, None)


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for data in chunks:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line:
                yield orjson.loads(line)


def _refuse_error(status: Manifest) -> None:
    """Let pass that the watch expired, after which all is listed again.

    Raises:
        TemporaryError: It was another error.
    """
    if status.get("code") != httpx2.codes.GONE:
        raise TemporaryError(f"The watch broke off: {status.get('message', '')}")
