"""What every process of ours has in common: its event loop, its end, its collector."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the fastest event loop that is installed."""
    try:
        import uvloop  # noqa: PLC0415 - there is none for other implementations of Python
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def leaving() -> asyncio.Event:
    """Return what is set when this process is asked to stop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


async def unless(asked: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work, which ends at once if the process is asked to stop; say whether it was done."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


def spare_the_collector() -> None:
    """Look for reference cycles seldom, and never among what lives as long as the process.

    By default a tenth of the processor time of an execution goes into looking; next to none of what
    an execution makes is part of a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
