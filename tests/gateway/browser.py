"""A small browser that speaks ASGI: cookies, the CSRF header, and streams read as they come."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Answer:
    """An answer that is complete."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's first value."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        """Return the body as a value."""
        return orjson.loads(self.body)

    @property
    def cookies(self) -> list[str]:
        """Return every Set-Cookie header."""
        return [value for key, value in self.headers if key == "set-cookie"]


class Exchange:
    """One request under way."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any], chunks: list[bytes]) -> None:
        self._chunks = chunks
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.can_write = asyncio.Event()
        self.can_write.set()
        self.start: Message | None = None
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._out.put_nowait({"type": "closed"})

    async def _receive(self) -> Message:
        if self._chunks:
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.can_write.wait()
        self._out.put_nowait(message)

    async def next(self) -> Message:
        """Return the next thing that the application sent, `closed` after the last."""
        async with asyncio.timeout(5):
            return await self._out.get()

    def waiting(self) -> int:
        """Return how many messages were sent and not looked at."""
        return self._out.qsize()

    def leave(self) -> None:
        """Close the connection from the browser's side."""
        self._gone.set()

    async def answer(self) -> Answer:
        """Read to the end."""
        body = bytearray()
        start: Message | None = None
        while (message := await self.next())["type"] != "closed":
            if message["type"] == "http.response.start":
                start = message
            else:
                body += message.get("body", b"")
        await self.task
        assert start is not None
        headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Answer(start["status"], headers, bytes(body))


class LiveStream:
    """A stream of Server-Sent Events, read message by message as a browser would."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.status = 0
        self.headers: dict[str, str] = {}
        self._buffer = b""

    async def begin(self) -> "LiveStream":
        """Read the head."""
        start = await self.exchange.next()
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def block(self) -> dict[str, str] | None:
        """Return the next block as its fields, None at the end of the stream."""
        while b"\n\n" not in self._buffer:
            message = await self.exchange.next()
            if message["type"] == "closed":
                return None
            self._buffer += message.get("body", b"")
        block, _, self._buffer = self._buffer.partition(b"\n\n")
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        return fields

    async def message(self) -> dict[str, Any]:
        """Return the next message; `id` and `event` stand beside its data."""
        while True:
            block = await self.block()
            assert block is not None, "the stream ended"
            if "data" in block:
                data: dict[str, Any] = orjson.loads(block["data"])
                return {**data, "_id": block.get("id"), "_name": block.get("event")}

    async def rest(self) -> list[dict[str, Any]]:
        """Return all messages up to the end of the stream."""
        found: list[dict[str, Any]] = []
        while (block := await self.block()) is not None:
            if "data" in block:
                data = orjson.loads(block["data"])
                found.append({**data, "_id": block.get("id"), "_name": block.get("event")})
        return found

    async def leave(self) -> None:
        """Close the connection from the browser's side."""
        self.exchange.leave()
        await self.exchange.task


@dataclass
class Browser:
    """One client with its cookies."""

    app: ASGIApp
    address: str = "203.0.113.7"
    cookies: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    """An API key, sent instead of cookies."""

    def exchange(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        chunks: list[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        csrf: bool = True,
    ) -> Exchange:
        """Begin a request."""
        sent: dict[str, str] = {"host": "testserver"}
        if json is not None:
            body, sent["content-type"] = orjson.dumps(json), "application/json"
        if form is not None:
            body = urlencode(form).encode()
            sent["content-type"] = "application/x-www-form-urlencoded"
        if self.key is not None:
            sent["authorization"] = f"Bearer {self.key}"
        elif self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            if csrf and "csrf_token" in self.cookies:
                sent["x-csrf-token"] = self.cookies["csrf_token"]
        if body is not None:
            sent["content-length"] = str(len(body))
        sent |= headers or {}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
            "client": (self.address, 40000),
            "server": ("testserver", 80),
            "state": {},
        }
        return Exchange(self.app, scope, chunks if chunks is not None else [body or b""])

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request and return its whole answer; cookies are kept."""
        answer = await self.exchange(method, path, **options).answer()
        for cookie in answer.cookies:
            pair, _, rest = cookie.partition(";")
            name, _, value = pair.partition("=")
            if "Max-Age=0" in rest:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        """Read."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """Change."""
        return await self.request("POST", path, **options)

    async def stream(self, path: str, **options: Any) -> LiveStream:
        """Open a stream and read its head."""
        return await LiveStream(self.exchange("GET", path, **options)).begin()
