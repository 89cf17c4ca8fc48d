"""Five-field cron schedules, read as KEDA reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_WEEKDAYS = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_FIELDS: Sequence[tuple[str, int, int, Mapping[str, int]]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _WEEKDAYS),
)
_HORIZON = timedelta(days=5 * 366)
"""A schedule that does not come true in five years (30 February) never does."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes at which something happens, in the wall time of one place."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both kinds of day are restricted: then one of them is enough."""
    zone: ZoneInfo

    def following(self, instant: datetime) -> datetime | None:
        """Return the first time strictly after an aware instant, or None if there is none."""
        # Steps are taken in UTC: a wall clock that is set back would repeat, or skip, a step.
        at = instant.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = at + _HORIZON
        while at <= last:
            local = at.astimezone(self.zone)
            if not self._has_day(local):
                at = self._midnight_after(local)
            elif local.hour not in self.hours:
                at += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _has_day(self, local: datetime) -> bool:
        if local.month not in self.months:
            return False
        in_month = local.day in self.days
        in_week = (local.isoweekday() % 7) in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week

    def _midnight_after(self, local: datetime) -> datetime:
        day = local.date() + timedelta(days=1)
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)


def parse_schedule(text: str, *, timezone: str) -> Schedule:
    """Read five fields: minute, hour, day of month, month, day of week (0 or sun is Sunday).

    Raises:
        ValueError: With a sentence that names the wrong field.
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"a schedule has five fields, {text!r} has {len(parts)}")
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{timezone!r} is no time zone that is known here") from error
    minutes, hours, days, months, weekdays = (
        _values(part, name=name, low=low, high=high, names=names)
        for part, (name, low, high, names) in zip(parts, _FIELDS, strict=True)
    )
    either_day = not any(parts[index].startswith(("*", "?")) for index in (2, 4))
    return Schedule(minutes, hours, days, months, weekdays, either_day, zone)


def _values(
    part: str, *, name: str, low: int, high: int, names: Mapping[str, int]
) -> frozenset[int]:
    values: set[int] = set()
    for item in part.split(","):
        span, slash, step = item.partition("/")
        first, last = _span(span, open_end=bool(slash), low=low, high=high, names=names)
        width = _number(step, {}) if slash else 1
        if width < 1 or not low <= first <= last <= high:
            raise ValueError(f"{item!r} is no {name} between {low} and {high}")
        values.update(range(first, last + 1, width))
    return frozenset(values)


def _span(
    span: str, *, open_end: bool, low: int, high: int, names: Mapping[str, int]
) -> tuple[int, int]:
    if span in ("*", "?"):
        return low, high
    first, dash, last = span.partition("-")
    start = _number(first, names)
    if dash:
        return start, _number(last, names)
    return start, high if open_end else start


def _number(text: str, names: Mapping[str, int]) -> int:
    """Return the number of a digit text or name, -1 (never allowed) where it is neither."""
    return int(text) if text.isdecimal() else names.get(text.lower(), -1)
