"""A Redis of its own, with a password and with TLS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.redis.own_server import OwnServer


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """Return a server of this test alone, started."""
    server = OwnServer(tmp_path / "engines")
    await server.start()
    yield server
    await server.stop()
