"""Whether a process without an HTTP server of its own lives and is ready, for who probes it.

Two paths and a few hundred bytes: a web framework would cost a pump a quarter of its start.
"""

import asyncio
import contextlib
import errno
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from shared.domain.errors import StartupError

_LOG = logging.getLogger(__name__)
_PATIENCE = timedelta(seconds=5)
"""How long a prober may take to ask."""
_LINE_BYTES = 2048
_LIVE = (b"/health/live", b"/health/liveness")
_READY = (b"/health/ready", b"/health/readiness")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the state of each engine: ok, degraded or down."""


def judged(checks: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the answer that the states of the engines amount to."""
    states = set(checks.values())
    if "down" in states:
        return 503, {"status": "unready", "checks": dict(checks)}
    status = "degraded" if "degraded" in states else "ready"
    return 200, {"status": status, "checks": dict(checks)}


class HealthServer:
    """Answers `GET /health/liveness` and `GET /health/readiness`."""

    def __init__(self, readiness: Readiness) -> None:
        """Ask for the state of the engines whenever a prober does."""
        self._readiness = readiness
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on every address; return the port, which matters where 0 was asked for.

        Raises:
            StartupError: The port is taken.
        """
        try:
            self._server = await asyncio.start_server(
                self._answer, sock=_listening(port), limit=_LINE_BYTES
            )
        except OSError as error:
            raise StartupError(
                f"The health port {port} cannot be listened on: {error.strerror}.",
                remedy="Choose another INTEGR8S_HEALTH_PORT; 0 takes a free one.",
            ) from error
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                status, told = await self._told(reader)
                body = json.dumps(told).encode()
                head = (
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
                    "Content-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    async def _told(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        try:
            words = (await reader.readuntil(b"\r\n")).split()
        except asyncio.LimitOverrunError:
            words = []
        if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):  # noqa: PLR2004 - method, path, version
            return 400, {"status": "only GET is answered here"}
        path = words[1].partition(b"?")[0]
        if path in _LIVE:
            return 200, {"status": "ok"}
        if path in _READY:
            return judged(await self._readiness())
        return 404, {"status": "nothing here but /health/liveness and /health/readiness"}


def _listening(port: int) -> socket.socket:
    """Return one socket for every address of both kinds, of IPv4 alone where there is no other.

    Two of them would be two ports where any free one is asked for.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port))
