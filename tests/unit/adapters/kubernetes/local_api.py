"""An API server of a few lines, at a port of its own: answers paths with what a test gives it."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.credentials import Credentials


class LocalApi:
    """Listens while it is entered."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        """Answer paths with objects, with a status alone, or with pages of a list; others 404."""
        self.answers = dict(answers)
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        """Path, query and headers of every request."""

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.api = ApiServer(
            Credentials(
                server=address, trust=ssl.create_default_context(), token=lambda: "Bearer t0ken"
            )
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Listen no more."""
        await self.api.close()
        self.stop()
        await self._server.wait_closed()

    def stop(self) -> None:
        """Be away from now on."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        target = urlsplit(head[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        query = parse_qs(target.query)
        self.asked.append((target.path, query, headers))
        status, body = self._answer(target.path, query)
        data = json.dumps(body).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
        )
        writer.write(data)
        await writer.drain()
        writer.close()

    def _answer(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        found = self.answers.get(path, 404)
        if isinstance(found, int):
            return found, {"kind": "Status", "reason": "Told", "message": f"no {path}"}
        if isinstance(found, list):
            number = int(query.get("continue", ["0"])[0])
            more = str(number + 1) if number + 1 < len(found) else ""
            return 200, {"metadata": {"continue": more}, "items": found[number]}
        return 200, found
