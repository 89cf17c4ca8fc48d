"""Fresh uuid7s."""

import os
import threading
import time
from collections.abc import Callable

from shared.domain.identifiers import uuid7

_RANDOM_BITS = 74


class SystemIds:
    """Ids of this process; they ascend, also within a millisecond and when the clock is set back.

    Safe to use from several threads.
    """

    def __init__(self, *, nanoseconds: Callable[[], int] = time.time_ns) -> None:
        """Read the time from the machine, or from whatever counts Unix nanoseconds."""
        self._nanoseconds = nanoseconds
        self._last = 0
        self._lock = threading.Lock()

    def new(self) -> str:
        """Return a fresh uuid7: unique, and later ones sort after earlier ones."""
        random = int.from_bytes(os.urandom(10))
        milliseconds = self._nanoseconds() // 1_000_000
        fresh = (milliseconds << _RANDOM_BITS) | (random & ((1 << _RANDOM_BITS) - 1))
        with self._lock:
            if fresh <= self._last:
                # A step of random length: the next id is above, and still nobody can guess it.
                fresh = self._last + 1 + (random & 0xFFFFFFFF)
            self._last = fresh
        return uuid7(fresh)
