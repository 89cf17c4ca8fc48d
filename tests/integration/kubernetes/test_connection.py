"""A watch over a connection that is cut, freezes, or cannot be made any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import pytest

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.domain.errors import TemporaryError
from shared.ports.cluster import Cause
from tests.hostile import harness
from tests.integration.kubernetes import pods

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PACE = 6.0
COUNTS = (
    "import os, time\nfor number in range({}):\n    os.write(1, b'%d\\n' % number); time.sleep(0.5)"
)


@dataclass
class Line:
    """A proxy in front of the API server that somebody can step on."""

    host: str
    port: int
    pairs: list["Pair"] = field(default_factory=list)
    is_open: bool = True

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a connection with one to the server."""
        if not self.is_open:
            writer.close()
            return
        pair = Pair(writer, *await asyncio.open_connection(self.host, self.port))
        self.pairs.append(pair)
        await asyncio.gather(pair.pump(reader, pair.server), pair.pump(pair.answers, pair.client))

    def cut(self) -> None:
        """Break every connection."""
        for pair in self.pairs:
            pair.client.transport.abort()
            pair.server.transport.abort()

    def freeze(self) -> None:
        """Let every connection be, and nothing pass any more."""
        for pair in self.pairs:
            pair.passes.clear()


class Pair:
    """Two connections that are one."""

    def __init__(
        self,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        """Join them."""
        self.client, self.answers, self.server = client, answers, server
        self.passes = asyncio.Event()
        self.passes.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, in one direction."""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self.passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def line_to(server: str) -> AsyncIterator[tuple[Line, str]]:
    """Open a line to a server; return it and the address of its near end."""
    address = urlsplit(server)
    line = Line(address.hostname or "", address.port or 443)
    listening = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield line, f"https://127.0.0.1:{port}"
    listening.close()
    line.cut()
    for pair in line.pairs:
        pair.passes.set()
    await harness.pause(0.1)


@dataclass
class Far:
    """A cluster that is watched over a line."""

    cluster: pods.PodCluster
    watch: harness.Watch
    line: Line


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    """Create at first hand, watch over the line."""
    found = credentials.find(pods.kubeconfig())
    async with pods.cluster() as near, line_to(found.server) as (line, server):
        name = found.server_name or urlsplit(found.server).hostname
        api = ApiServer(replace(found, server=server, server_name=name))
        over_there = pods.PodCluster(near.options, api=api)
        watch = harness.Watch(over_there, pace=PACE)
        yield Far(near, watch, line)
        await watch.close()
        await over_there.close()


async def printed(far: Far, name: str, chunks: int = 1) -> None:
    """Wait for output."""
    seen = far.watch.of(name)
    await far.watch.until(lambda: len(seen.chunks) >= chunks, 10, f"{name} prints")


async def test_cut_line_is_not_noticed(far: Far) -> None:
    """Watch and log are taken up where they were: nothing is missing, nothing is there twice."""
    await far.cluster.create(harness.spec("cut", COUNTS.format(12), seconds=30))
    for chunks in (2, 5, 8):
        await printed(far, "cut", chunks)
        far.line.cut()
    seen = await far.watch.ended("cut")

    assert seen.end.cause is Cause.EXIT
    assert seen.live("stdout") == b"".join(b"%d\n" % number for number in range(12))
    assert seen.end.stdout.kept == seen.live("stdout")


async def test_frozen_line_is_given_up(far: Far) -> None:
    """Nobody says that a connection has died; its silence does."""
    await far.cluster.create(harness.spec("frozen", COUNTS.format(50), seconds=60))
    await printed(far, "frozen", 2)
    before = len(far.watch.of("frozen").chunks)
    far.line.freeze()
    await far.watch.until(lambda: len(far.watch.of("frozen").chunks) > before + 20, 6, "it goes on")
    seen = await far.watch.ended("frozen", 10)

    assert seen.live("stdout") == b"".join(b"%d\n" % number for number in range(50))


async def test_line_that_cannot_be_made_any_more_ends_the_watch(far: Far) -> None:
    """Whoever watches is told, and begins anew when it likes."""
    await far.cluster.create(harness.spec("last", COUNTS.format(4)))
    await printed(far, "last")
    far.line.is_open = False
    far.line.cut()

    await harness.until(far.watch.is_over, 10, "the watch ends")

    with pytest.raises(TemporaryError):
        await far.watch.ended("last")


async def test_watch_that_begins_anew_says_everything(far: Far) -> None:
    """From the first byte on, whatever the last one had said."""
    await far.cluster.create(harness.spec("anew", COUNTS.format(8)))
    await printed(far, "anew", 2)
    far.line.is_open = False
    far.line.cut()
    await harness.until(far.watch.is_over, 10, "the watch ends")
    far.line.is_open = True
    again = far.watch.another()
    seen = await again.ended("anew")
    await again.close()

    assert seen.live("stdout") == b"".join(b"%d\n" % number for number in range(8))
