"""An HTTP server as the work of a process: while its engines are looked for, and to its end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from shared.runtime.http import Server


async def serve(
    app: Any,
    opened: socket.socket,
    *,
    asked: asyncio.Event,
    drain: timedelta,
    preparing: Coroutine[Any, Any, object],
    before_the_end: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until the process is asked to stop.

    It answers from the start, so that its readiness says what it still waits for.

    Args:
        app: An ASGI application.
        opened: Where it listens already.
        asked: Is set when the process is to stop.
        drain: How long open answers may take at the end.
        preparing: What has to succeed beside it.
        before_the_end: What is done while it still answers.

    Raises:
        StartupError: Preparing has found that it cannot run here.
    """
    server = Server(app, drain=drain)
    serving = asyncio.create_task(server.run_on(opened), name="server")
    prepared = asyncio.create_task(preparing, name="preparation")
    try:
        await _until_asked(asked, serving, prepared)
        if before_the_end is not None:
            await before_the_end()
    finally:
        prepared.cancel()
        server.stop()
        await serving
        await asyncio.wait({prepared})


async def _until_asked(
    asked: asyncio.Event, serving: "asyncio.Task[None]", prepared: "asyncio.Task[object]"
) -> None:
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({waiting, serving, prepared}, return_when=asyncio.FIRST_COMPLETED)
        if prepared.done():
            prepared.result()
            await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
