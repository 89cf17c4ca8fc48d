"""Between threads and the event loop that waits for them."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


async def aside(work: Callable[[], _Answer]) -> _Answer:
    """Return what some work returns that blocks; a process that ends does not wait for it.

    The threads of `asyncio.to_thread` are waited for, and a broker that hangs would hold up the end
    of a process for as long as it is asked.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Answer] = loop.create_future()

    def run() -> None:
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001 - it is for the caller, whatever it is
            call_back(loop, _fail, done, error)
        else:
            call_back(loop, _succeed, done, answer)

    threading.Thread(target=run, name="kafka-aside", daemon=True).start()
    return await done


def _succeed(done: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not done.done():
        done.set_result(answer)


def _fail(done: asyncio.Future[_Answer], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


def call_back(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object
) -> None:
    """Have a callback run by an event loop; nothing happens where the loop is closed by now."""
    # A process that stops does not wait for everything that its threads still do.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *arguments)
