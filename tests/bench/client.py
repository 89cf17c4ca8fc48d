"""A small HTTP client on bare sockets: a general one costs as much as what it measures."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

HELLO = 'print("hello, world")'
_LIMIT = 4 * 1024 * 1024
_RESULT = b'"event_type":"result_stored"'


class Refused(Exception):
    """The server answered with something else than success."""

    def __init__(self, status: int, body: bytes) -> None:
        """Keep what it said."""
        super().__init__(f"{status}: {body[:500].decode(errors='replace')}")
        self.status, self.body = status, body


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            Refused: It was no success.
        """
        if not 200 <= self.status < 300:
            raise Refused(self.status, self.body)
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream."""

    id: str | None
    name: str
    data: bytes

    @property
    def is_result(self) -> bool:
        """Say whether this is the stored result; cheaper than reading the JSON."""
        return _RESULT in self.data[:40]

    def json(self) -> Any:
        """Return the parsed data."""
        return json.loads(self.data)


class Connection:
    """One connection that is kept alive, for one request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
    ) -> None:
        """Take over an open socket."""
        self._reader, self._writer, self._head = reader, writer, head
        self._peer: tuple[str, int] = writer.get_extra_info("peername")[:2]

    @classmethod
    async def open(
        cls, host: str, port: int, key: str, *, route: Mapping[str, str] | None = None
    ) -> Self:
        """Connect; `route` are headers for whatever stands before the server, `Host` among them."""
        reader, writer = await asyncio.open_connection(host, port, limit=_LIMIT)
        sent = {"Host": f"{host}:{port}", "Authorization": f"Bearer {key}", **(route or {})}
        return cls(reader, writer, "".join(f"{name}: {value}\r\n" for name, value in sent.items()))

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its whole answer.

        Raises:
            ConnectionError: The connection broke; the request may or may not have been handled.
        """
        status, answered = await self._begin(method, path, body, headers)
        if answered.get("transfer-encoding") == "chunked":
            parts = [part async for part in self._chunks()]
            return Answer(status, answered, b"".join(parts))
        size = 0 if status in (204, 304) else int(answered.get("content-length", "0"))
        return Answer(status, answered, await self._exactly(size))

    async def stream(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Message]:
        """Yield the messages of a stream until the server ends it.

        Raises:
            Refused: There is no stream.
            ConnectionError: The connection broke.
        """
        status, answered = await self._begin("GET", path, None, headers)
        if status != 200:
            size = int(answered.get("content-length", "0"))
            raise Refused(status, await self._exactly(size))
        rest = b""
        async for part in self._chunks():
            *blocks, rest = (rest + part).split(b"\n\n")
            for block in blocks:
                message = _message(block)
                if message is not None:
                    yield message

    async def _begin(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> tuple[int, dict[str, str]]:
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        content = b"" if body is None else json.dumps(body).encode()
        if content:
            lines += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{lines}\r\n"
        if self._reader.at_eof():
            # A server that stops, or sleeps, closes what is idle: nothing of ours was on its way.
            self._writer.close()
            self._reader, self._writer = await asyncio.open_connection(*self._peer, limit=_LIMIT)
        self._writer.write(head.encode() + content)
        try:
            answered = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed before an answer came") from error
        first, *named = answered[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in named)
        return int(first.split(" ", 2)[1]), {name.lower(): v.strip() for name, _, v in pairs}

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed in the middle of an answer") from error

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionResetError("closed in the middle of a stream")
            size = int(line, 16)
            part = await self._exactly(size + 2)
            if not size:
                return
            yield part[:-2]

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Client:
    """One user: a connection for requests and one for streams."""

    def __init__(self, requests: Connection, streams: Connection) -> None:
        """Take over two connections."""
        self.requests, self.streams = requests, streams

    @classmethod
    async def open(
        cls, host: str, port: int, key: str, *, route: Mapping[str, str] | None = None
    ) -> Self:
        """Connect twice."""
        requests = await Connection.open(host, port, key, route=route)
        try:
            streams = await Connection.open(host, port, key, route=route)
        except BaseException:
            requests.close()
            raise
        return cls(requests, streams)

    async def submit(
        self,
        script: str = HELLO,
        *,
        key: str | None = None,
        lang: str = "python",
        version: str | None = None,
        timeout_seconds: int = 30,
        args: Sequence[str] = (),
    ) -> str:
        """Submit a script and return the id of its execution.

        Raises:
            Refused: It was not accepted.
            ConnectionError: The connection broke; it may or may not have been accepted.
        """
        body: dict[str, Any] = {
            "script": script,
            "lang": lang,
            "timeout_seconds": timeout_seconds,
            "args": list(args),
        }
        if version is not None:
            body["lang_version"] = version
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await self.requests.request("POST", "/api/v1/execute", body, headers)
        execution_id: str = answer.json()["execution_id"]
        return execution_id

    async def get(self, path: str) -> Any:
        """Return what a resource shows.

        Raises:
            Refused: It was no success.
        """
        return (await self.requests.request("GET", f"/api/v1{path}")).json()

    async def follow(self, execution_id: str) -> AsyncIterator[Message]:
        """Yield the messages of an execution's stream."""
        async for message in self.streams.stream(f"/api/v1/events/executions/{execution_id}"):
            yield message

    async def run(self, script: str = HELLO, *, version: str | None = None) -> float:
        """Return the seconds from sending a script until its stored result is on the stream.

        The rest of the stream is read after the clock was stopped.

        Raises:
            RuntimeError: It did not complete.
        """
        begun = perf_counter()
        execution_id = await self.submit(script, version=version)
        taken, result = 0.0, None
        async for message in self.follow(execution_id):
            if result is None and message.is_result:
                taken, result = perf_counter() - begun, message
        if result is None or result.json()["status"] != "completed":
            raise RuntimeError(f"{execution_id} did not complete: {result}")
        return taken

    def close(self) -> None:
        """Hang up."""
        self.requests.close()
        self.streams.close()


def _message(block: bytes) -> Message | None:
    """Return the message of a block, None for a comment or a bare `retry`."""
    message_id, name, data = None, "message", None
    for line in block.split(b"\n"):
        field, _, value = line.partition(b": ")
        if field == b"data":
            data = value
        elif field == b"id":
            message_id = value.decode()
        elif field == b"event":
            name = value.decode()
    return None if data is None else Message(message_id, name, data)
