"""Starts that are refused: one sentence, an exit code, nothing damaged."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.bench.server import NotStarted, Server
from tests.crash import harness
from tests.crash.harness import QUICKLY, machine
from tests.ledger import ends_of

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, harness.needs_sandbox]


async def test_second_copy_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    """The second says what runs there and ends; the first does not notice."""
    async with machine(tmp_path) as world:
        running = await world.submit("import time\ntime.sleep(1)")
        await world.until_status([running], "running", seconds=10)

        with pytest.raises(NotStarted, match="already runs") as refused:
            await asyncio.to_thread(Server.start, world.data_dir)
        ids = [running, await world.submit(QUICKLY, lang="bash")]
        known = await world.until_at_rest()
        await world.down()

        assert refused.value.code == 1
        assert ends_of(known, ids) == {("completed", None)}
        assert await world.violations() == []


async def test_port_in_use_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The sentence names the port, and the data directory is as it was: there is none."""
    data_dir = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(NotStarted, match=f"Port {port} .* is in use") as refused:
            await asyncio.to_thread(Server.start, data_dir, {"INTEGR8S_PORT": str(port)})

    assert refused.value.code == 1
    assert not data_dir.exists()
