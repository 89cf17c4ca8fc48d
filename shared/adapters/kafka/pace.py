"""How soon after records more is asked for."""

SOON_SECONDS = 0.02
STEADY_SECONDS = 0.25
BRISK_SECONDS = 0.1
BRISK_RECORDS = 10
"""A poll that finds so many is worth its effort."""
SPARE_POLLS = 8
_REFILL_SECONDS = 1.0


class Pace:
    """Lets records gather where they keep coming, and whoever comes now and then pass at once.

    Most of the effort of a poll is the driver's, whatever it finds. A member that has read little
    lately reads on soon, for a while; one that reads a little all the time does it four times a
    second, and one that reads much ten times.
    """

    def __init__(self) -> None:
        """Begin as one that has read nothing lately."""
        self._spare = float(SPARE_POLLS)
        self._at = 0.0

    def rest(self, now: float, found: int) -> float:
        """Return the seconds until the next poll, after one that found some records at `now`."""
        self._spare = min(SPARE_POLLS, self._spare + (now - self._at) / _REFILL_SECONDS)
        self._at = now
        if self._spare < 1:
            return STEADY_SECONDS if found < BRISK_RECORDS else BRISK_SECONDS
        self._spare -= 1
        return SOON_SECONDS
