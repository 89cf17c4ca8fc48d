"""A bound on how long a task may take with one thing, cheap enough for every single event."""

import asyncio
from types import TracebackType


class TimeLimit:
    """What `asyncio.timeout` does, for one task that uses it over and over.

    The standard one asks for the running loop and the current task several times per use, which is
    a system call each on some versions of Python; here both are known already.
    """

    __slots__ = ("_alarm", "_before", "_loop", "_rang", "_seconds", "_task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]", seconds: float
    ) -> None:
        """Bound what `task`, which must be the one that enters, does inside."""
        self._loop = loop
        self._task = task
        self._seconds = seconds

    def __enter__(self) -> None:
        """Set the alarm."""
        self._rang = False
        self._before = self._task.cancelling()
        self._alarm = self._loop.call_later(self._seconds, self._ring)

    def _ring(self) -> None:
        self._rang = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Turn our own cancellation, and nobody else's, into the end of the time.

        Raises:
            TimeoutError: The time is over.
        """
        self._alarm.cancel()
        if self._rang and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
