"""How soon after records more is asked for."""

SOON_SECONDS = 0.02
STEADY_SECONDS = 0.25
SPARE_POLLS = 8
_REFILL_SECONDS = 1.0


class Pace:
    """Lets records gather where they keep coming, and whoever comes now and then pass at once.

    Most of the effort of a poll is the driver's, whatever it finds. A member that has read little
    lately reads on soon, for a while; one that reads all the time does it four times a second.
    """

    def __init__(self) -> None:
        """Begin as one that has read nothing lately."""
        self._spare = float(SPARE_POLLS)
        self._at = 0.0

    def rest(self, now: float) -> float:
        """Return the seconds until the next poll, after one that found something at `now`."""
        self._spare = min(SPARE_POLLS, self._spare + (now - self._at) / _REFILL_SECONDS)
        self._at = now
        if self._spare < 1:
            return STEADY_SECONDS
        self._spare -= 1
        return SOON_SECONDS
