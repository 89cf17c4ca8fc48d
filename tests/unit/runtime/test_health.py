"""Probes are answered by the states of the engines."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from shared.domain.errors import StartupError
from shared.runtime.health import HealthServer


class Probed:
    """A server over states that a test chooses."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {"event_log": "ok"}
        self.server = HealthServer(self.readiness)
        self.port = 0

    async def readiness(self) -> Mapping[str, str]:
        """Return what the test chose."""
        return self.states

    async def ask(self, request: bytes) -> tuple[int, dict[str, Any]]:
        """Send bytes; return the status and the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        return int(head.split()[1]), json.loads(body)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask as the kubelet does."""
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    """Return a server that listens on a free port."""
    probed = Probed()
    probed.port = await probed.server.start(0)
    yield probed
    await probed.server.stop()


async def test_a_process_lives_whatever_its_engines_do(probed: Probed) -> None:
    """Else the kubelet would kill what only waits."""
    probed.states = {"event_log": "down"}

    assert await probed.get("/health/liveness") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("states", "status", "word"),
    [
        ({"event_log": "ok", "signals": "ok"}, 200, "ready"),
        ({"event_log": "ok", "signals": "degraded"}, 200, "degraded"),
        ({"event_log": "down", "signals": "ok"}, 503, "unready"),
    ],
)
async def test_readiness_says_which_engine_is_away(
    probed: Probed, states: dict[str, str], status: int, word: str
) -> None:
    """An operator reads it off the probe's answer."""
    probed.states = states

    assert await probed.get("/health/readiness?verbose") == (
        status,
        {"status": word, "checks": states},
    )


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /health/liveness HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_anything_else_is_refused(probed: Probed, request_bytes: bytes, status: int) -> None:
    """In a sentence, and the server goes on."""
    found, answer = await probed.ask(request_bytes)

    assert found == status
    assert answer["status"]
    assert (await probed.get("/health/live"))[0] == 200


async def test_a_taken_port_is_named(probed: Probed) -> None:
    """With what helps."""
    second = HealthServer(probed.readiness)

    with pytest.raises(StartupError, match=f"{probed.port} cannot be listened on.*HEALTH_PORT"):
        await second.start(probed.port)
