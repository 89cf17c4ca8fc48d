"""An API server in this process: objects, watches and logs, and faults on order."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2

from shared.adapters.kubernetes import objects
from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.cluster import KubernetesCluster, KubernetesOptions
from shared.adapters.kubernetes.credentials import Credentials
from tests.virtual_time import EPOCH, LoopClock

Object = dict[str, Any]
BASE = "/api/v1/namespaces/scripts"
PODS, CONFIG_MAPS = f"{BASE}/pods", f"{BASE}/configmaps"
CUT = httpx2.ReadError("the connection was cut")


def refusal(status: int, reason: str = "", message: str = "", **headers: str) -> httpx2.Response:
    """Return an answer that says no."""
    body = {"kind": "Status", "code": status, "reason": reason, "message": message}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json=body, headers=named)


@dataclass
class Fault:
    """What becomes of the next requests of a kind instead of what they ask for."""

    method: str
    path: str
    answer: httpx2.Response | Exception | None = None
    delay: float = 0.0
    before: Callable[[], None] | None = None
    """Is done first, as if somebody else had been quicker."""


class Stream(httpx2.AsyncByteStream):
    """An answer that goes on until it is closed, or broken."""

    def __init__(self) -> None:
        """Begin empty."""
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def send(self, piece: bytes | Exception | None) -> None:
        """Send some bytes, an error, or the end."""
        self.pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what is sent."""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@dataclass
class FakeServer(httpx2.AsyncBaseTransport):
    """Keeps the objects of one namespace as the real one does, as far as anybody here can tell."""

    objects: dict[str, Object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    watches: list[Stream] = field(default_factory=list)
    watched_from: list[str] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)
    version: int = 10
    is_mute: bool = False
    """Watches hear nothing, as where a connection has died silently."""
    busy: int = 0
    most_busy: int = 0

    @property
    def told(self) -> list[str]:
        """Every request so far, in short."""
        return [f"{method} {path.removeprefix(BASE)}" for method, path, _ in self.requests]

    @property
    def names(self) -> set[str]:
        """What there is, by kind and name."""
        return {path.removeprefix(f"{BASE}/") for path in self.objects}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            body = json.loads(await request.aread() or b"null")
            self.requests.append((request.method, request.url.path, body))
            answer = await self._faulty(request)
            if answer is None:
                answer = self._answer(request, body)
            answer.headers.setdefault("date", format_datetime(LoopClock().now(), usegmt=True))
            return answer
        finally:
            self.busy -= 1

    async def _faulty(self, request: httpx2.Request) -> httpx2.Response | None:
        for fault in self.faults:
            if (fault.method, fault.path) == (request.method, request.url.path):
                self.faults.remove(fault)
                await LoopClock().sleep(timedelta(seconds=fault.delay))
                if fault.before is not None:
                    fault.before()
                if isinstance(fault.answer, Exception):
                    raise fault.answer
                return fault.answer
        return None

    def _answer(self, request: httpx2.Request, body: Any) -> httpx2.Response:
        path = request.url.path
        if request.method == "POST":
            return self._make(f"{path}/{body['metadata']['name']}", body)
        if path in (PODS, CONFIG_MAPS):
            return self._collection(path, request.url.params)
        if path.endswith("/log"):
            return self._log(path.split("/")[-2])
        if path not in self.objects:
            return refusal(404, "NotFound", path)
        if request.method == "PATCH":
            self._patch(path, body)
            return httpx2.Response(200, json=self._after(path))
        if request.method == "DELETE":
            self.delete(path)
            return httpx2.Response(200, json={})
        return httpx2.Response(200, json=self.objects[path])

    # ------------------------------------------------------------------------------- what it does

    def _make(self, path: str, body: Object) -> httpx2.Response:
        if path in self.objects:
            return refusal(409, "AlreadyExists", path)
        body["metadata"] |= {"uid": f"uid-{self.version}", "creationTimestamp": _now()}
        body.setdefault("status", {"phase": "Pending"})
        self.put(path, body)
        return httpx2.Response(201, json=body)

    def _collection(self, path: str, params: httpx2.QueryParams) -> httpx2.Response:
        assert params["labelSelector"] == objects.SELECTOR
        if "watch" in params:
            stream = Stream()
            self.watches.append(stream)
            self.watched_from.append(params["resourceVersion"])
            return httpx2.Response(200, stream=stream)
        found = [one for name, one in self.objects.items() if name.startswith(f"{path}/")]
        begin = int(params.get("continue", 0))
        size = int(params.get("limit", len(found) or 1))
        rest = {"continue": str(begin + size)} if begin + size < len(found) else {}
        metadata = {"resourceVersion": str(self.version), **rest}
        return httpx2.Response(200, json={"metadata": metadata, "items": found[begin:][:size]})

    def _log(self, name: str) -> httpx2.Response:
        """Answer with a log; it goes on until its container is over, which is after the test."""
        stream = Stream()
        stream.send(self.logs[name])
        if self.objects[f"{PODS}/{name}"]["status"]["phase"] in ("Succeeded", "Failed"):
            stream.send(None)
        return httpx2.Response(200, stream=stream)

    def _patch(self, path: str, change: Object) -> None:
        one = self.objects[path]
        metadata = dict(change.get("metadata", {}))
        gone = metadata.pop("$deleteFromPrimitiveList/finalizers", [])
        left = [name for name in one["metadata"].get("finalizers", []) if name not in gone]
        one["metadata"]["finalizers"] = left
        one["metadata"].setdefault("annotations", {}).update(metadata.pop("annotations", {}))
        one["metadata"] |= metadata
        one["spec"] = {**one.get("spec", {}), **change.get("spec", {})}
        self.put(path, one)

    def _after(self, path: str) -> Object:
        """Return an object as it was left; it goes with its last finaliser."""
        one = self.objects[path]
        if "deletionTimestamp" in one["metadata"]:
            self.delete(path)
        return one

    def put(self, path: str, one: Object) -> None:
        """Make or change an object, and tell who watches."""
        self.version += 1
        kind = "MODIFIED" if path in self.objects else "ADDED"
        one["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = one
        if path.startswith(PODS):
            self.tell(kind, one)

    def change(self, name: str, **status: Any) -> None:
        """Let a pod be in another state."""
        path = f"{PODS}/{name}"
        self.put(path, {**self.objects[path], "status": status})

    def delete(self, path: str) -> None:
        """Delete an object; with a finaliser it stays, marked."""
        one = self.objects[path]
        if one["metadata"].get("finalizers"):
            one["metadata"]["deletionTimestamp"] = _now()
            self.put(path, one)
            return
        del self.objects[path]
        self.version += 1
        if path.startswith(PODS):
            one["metadata"]["resourceVersion"] = str(self.version)
            self.tell("DELETED", one)

    def tell(self, kind: str, one: Object) -> None:
        """Send an event to every watch."""
        line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
        for watch in [] if self.is_mute else self.watches:
            watch.send(line)


def _now() -> str:
    return LoopClock().now().isoformat().replace("+00:00", "Z")


def api(server: FakeServer) -> ApiServer:
    """Return the way to a server."""
    credentials = Credentials("https://api", ssl.create_default_context(), lambda: "Bearer token")
    return ApiServer(credentials, transport=server)


def cluster(server: FakeServer, **options: Any) -> KubernetesCluster:
    """Return a cluster on a server."""
    chosen = KubernetesOptions(namespace="scripts", **options)
    return KubernetesCluster(chosen, clock=LoopClock(), api=api(server))


def ages(seconds: int) -> Iterator[datetime]:
    """Yield the moments around one that is so long ago."""
    for difference in (-1, 0, 1):
        yield EPOCH - timedelta(seconds=seconds + difference)
