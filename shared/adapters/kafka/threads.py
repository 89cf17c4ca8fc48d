"""From a thread back to the event loop that waits for it."""

import asyncio
import contextlib
from collections.abc import Callable


def call_back(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object
) -> None:
    """Have a callback run by an event loop; nothing happens where the loop is closed by now."""
    # A process that stops does not wait for everything that its threads still do.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *arguments)
