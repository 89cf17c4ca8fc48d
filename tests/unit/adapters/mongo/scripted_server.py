"""A MongoDB of a few lines: says what a test tells it to, and keeps what it was asked.

It shows what no engine on this machine can be made to say: refusals, changes of primary, silence.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import bson

from tests.ledger import pause

Answer = Mapping[str, Any] | None
"""What is said to a command; None cuts the connection."""
Say = Callable[[Mapping[str, Any]], Answer]

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HEADER = struct.Struct("<iiii")
_HELLO = frozenset({"hello", "ismaster", "isMaster"})
_HANDSHAKE = {
    "ok": 1,
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxWireVersion": 21,
    "minWireVersion": 0,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
}


class ScriptedServer:
    """Listens on a port of its own while it is entered."""

    def __init__(self, say: Say, *, replica_set: str | None = None, **handshake: Any) -> None:
        """Say to each command what `say` says; to greetings what a server of today would."""
        self.asked: list[dict[str, Any]] = []
        self.greets_after = 0.0
        """Seconds that every new connection takes, as where a machine has much to catch up on."""
        self._say = say
        self._replica_set = replica_set
        self._handshake = {**_HANDSHAKE, **handshake}
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        if self._replica_set is not None:
            self._handshake |= {
                "setName": self._replica_set,
                "hosts": [self.address],
                "primary": self.address,
                "me": self.address,
            }
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End every connection."""
        self._server.close()
        for connection in self._connections:
            connection.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"mongodb://{self.address}/"

    def named(self, command: str) -> list[dict[str, Any]]:
        """Return what was asked by one command."""
        return [asked for asked in self.asked if command in asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                header = await reader.readexactly(_HEADER.size)
                length, number, _, code = _HEADER.unpack(header)
                asked = _command(code, await reader.readexactly(length - _HEADER.size))
                if _HELLO & asked.keys():
                    await pause(self.greets_after)
                answer = self._answer(asked)
                if answer is None:
                    break
                writer.write(_reply(code, number, answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, asked: dict[str, Any]) -> Answer:
        if _HELLO & asked.keys():
            return self._handshake
        if "endSessions" in asked:
            return {"ok": 1}
        self.asked.append(asked)
        return self._say(asked)


def _command(code: int, body: bytes) -> dict[str, Any]:
    """Return a command with its documents, which may travel in a section of their own."""
    if code == _OP_QUERY:
        start = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[start : start + int.from_bytes(body[start : start + 4], "little")])
    command: dict[str, Any] = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        size = int.from_bytes(body[at : at + 4], "little")
        section, at = body[at : at + size], at + size
        if kind == 0:
            command |= bson.decode(section)
        else:
            end = section.index(b"\0", 4)
            command[section[4:end].decode()] = bson.decode_all(section[end + 1 :])
    return command


def _reply(code: int, number: int, answer: Mapping[str, Any]) -> bytes:
    body = bson.encode(answer)
    if code == _OP_QUERY:
        content = struct.pack("<iqii", 8, 0, 0, 1) + body
        return _HEADER.pack(_HEADER.size + len(content), 0, number, _OP_REPLY) + content
    content = struct.pack("<ib", 0, 0) + body
    return _HEADER.pack(_HEADER.size + len(content), 0, number, _OP_MSG) + content
