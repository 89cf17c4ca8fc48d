"""Ids that come again with the same seed."""

from random import Random

from shared.domain.identifiers import uuid7
from shared.ports.clock import Clock

_RANDOM_BITS = 74


class SeededIds:
    """uuid7s that follow from a seed and a clock; they ascend as the real ones do."""

    def __init__(self, seed: int, clock: Clock) -> None:
        """Draw from a generator of our own, so that nobody else's draws change the ids."""
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._clock = clock
        self._last = 0

    def new(self) -> str:
        """Return the next uuid7: unique within this seed, and sorting after the ones before."""
        milliseconds = int(self._clock.now().timestamp() * 1000)
        fresh = (milliseconds << _RANDOM_BITS) | self._random.getrandbits(_RANDOM_BITS)
        if fresh <= self._last:
            fresh = self._last + 1 + self._random.getrandbits(32)
        self._last = fresh
        return uuid7(fresh)
