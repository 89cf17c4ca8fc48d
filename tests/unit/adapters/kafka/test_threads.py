"""Work that blocks, beside the event loop."""

import asyncio
import threading

import pytest

from shared.adapters.kafka.threads import aside


async def test_what_it_returns_or_raises_comes_back() -> None:
    """As if it had been called here."""

    def fail() -> None:
        raise ValueError("no")

    assert await aside(lambda: 42) == 42
    with pytest.raises(ValueError, match="no"):
        await aside(fail)


async def test_nobody_waits_for_work_that_was_given_up() -> None:
    """Neither the caller, nor the end of the process, which daemons do not hold up."""
    begun, go_on = threading.Event(), threading.Event()
    workers: list[threading.Thread] = []

    def hang() -> None:
        workers.append(threading.current_thread())
        begun.set()
        go_on.wait()

    asking = asyncio.create_task(aside(hang))
    await asyncio.to_thread(begun.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    [worker] = workers
    assert worker.is_alive()
    assert worker.daemon
    go_on.set()
    worker.join()
