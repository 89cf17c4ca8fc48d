"""A server answers while its process is prepared, and until it is asked to stop."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.errors import StartupError
from shared.runtime.http import listen
from shared.runtime.serving import serve

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer everything with 204."""
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def status_at(port: int) -> int:
    """Return the status of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = await reader.readline()
    writer.close()
    return int(head.split()[1])


async def never() -> None:
    """Prepare without end."""
    await asyncio.Event().wait()


async def test_it_answers_before_it_is_prepared_and_until_the_end() -> None:
    """What is done before the end may still rely on it."""
    asked, seen = asyncio.Event(), []

    async def say_goodbye() -> None:
        seen.append(await status_at(port))

    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        serving = asyncio.create_task(
            serve(
                app,
                opened,
                asked=asked,
                drain=timedelta(seconds=1),
                preparing=never(),
                before_the_end=say_goodbye,
            )
        )
        seen.append(await status_at(port))
        asked.set()
        await serving

    assert seen == [204, 204]


async def test_it_ends_where_preparing_finds_that_it_cannot_run_here() -> None:
    """With the sentence that says so."""

    async def fail() -> None:
        raise StartupError("No.", remedy="Yes.")

    with listen("127.0.0.1", 0) as opened, pytest.raises(StartupError, match=r"No\. Yes\."):
        await serve(
            app, opened, asked=asyncio.Event(), drain=timedelta(seconds=1), preparing=fail()
        )


async def test_it_goes_on_when_it_is_prepared() -> None:
    """Until it is asked to stop."""
    asked, prepared = asyncio.Event(), asyncio.Event()

    async def prepare() -> None:
        prepared.set()

    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        serving = asyncio.create_task(
            serve(app, opened, asked=asked, drain=timedelta(seconds=1), preparing=prepare())
        )
        await prepared.wait()
        status = await status_at(port)
        asked.set()
        await serving

    assert status == 204
