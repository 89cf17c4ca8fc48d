"""Schedules and windows."""

from datetime import UTC, datetime

import pytest

from shared.runtime.scaling.cron import parse_schedule
from shared.runtime.scaling.objects import CronTrigger


def at(text: str) -> datetime:
    """Return an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "instant", "expected"),
    [
        pytest.param("*/5 * * * *", "2026-03-01T12:00:00", "2026-03-01T12:05:00", id="strict"),
        pytest.param("*/5 * * * *", "2026-03-01T12:04:59", "2026-03-01T12:05:00", id="step"),
        pytest.param("1-59/5 * * * *", "2026-03-01T12:57:00", "2026-03-01T13:01:00", id="range"),
        pytest.param("50/5 * * * *", "2026-03-01T12:00:00", "2026-03-01T12:50:00", id="open-range"),
        pytest.param("0 3,15 * * *", "2026-03-01T03:00:00", "2026-03-01T15:00:00", id="list"),
        pytest.param("0 0 1 JAN *", "2026-03-01T00:00:00", "2027-01-01T00:00:00", id="month-name"),
        pytest.param("0 0 * * mon", "2026-03-01T00:00:00", "2026-03-02T00:00:00", id="day-name"),
        pytest.param("0 0 13 * 5", "2026-03-01T00:00:00", "2026-03-06T00:00:00", id="either-day"),
        pytest.param("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00", id="leap-day"),
    ],
)
def test_following_time(schedule: str, instant: str, expected: str) -> None:
    """The next time is strictly after the given one."""
    assert parse_schedule(schedule, timezone="UTC").following(at(instant)) == at(expected)


def test_time_zone_counts() -> None:
    """Six in the morning is where the schedule lives."""
    schedule = parse_schedule("0 6 * * *", timezone="Europe/Berlin")

    assert schedule.following(at("2026-07-01T00:00:00")) == at("2026-07-01T04:00:00")


def test_skipped_hour_is_skipped() -> None:
    """A time that the change to summer leaves out comes on the next day."""
    schedule = parse_schedule("30 2 * * *", timezone="Europe/Berlin")

    assert schedule.following(at("2026-03-29T00:00:00")) == at("2026-03-30T00:30:00")


def test_impossible_date_never_comes() -> None:
    """The thirtieth of February is not waited for."""
    assert parse_schedule("0 0 30 2 *", timezone="UTC").following(at("2026-01-01T00:00:00")) is None


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        pytest.param("@hourly", "five fields", id="descriptor"),
        pytest.param("* * * * * *", "five fields", id="seconds"),
        pytest.param("60 * * * *", "is no minute", id="too-large"),
        pytest.param("5-1 * * * *", "is no minute", id="backwards"),
        pytest.param("*/0 * * * *", "is no minute", id="no-step"),
        pytest.param("*/ * * * *", "is no minute", id="empty-step"),
        pytest.param("0 0 * * 7", "is no day of week", id="second-sunday"),
        pytest.param("0 0 x * *", "is no day of month", id="word"),
    ],
)
def test_wrong_schedule_is_refused(schedule: str, complaint: str) -> None:
    """The sentence names the field."""
    with pytest.raises(ValueError, match=complaint):
        parse_schedule(schedule, timezone="UTC")


def test_unknown_time_zone_is_refused() -> None:
    """A zone that nobody knows is said so."""
    with pytest.raises(ValueError, match="no time zone"):
        parse_schedule("* * * * *", timezone="Mars/Olympus")


@pytest.mark.parametrize(
    ("instant", "is_open"),
    [
        pytest.param("2026-03-01T11:59:59", False, id="before"),
        pytest.param("2026-03-01T12:00:00", True, id="start"),
        pytest.param("2026-03-01T12:00:59", True, id="within"),
        pytest.param("2026-03-01T12:01:00", False, id="end"),
    ],
)
def test_pulse_is_open_for_a_minute(instant: str, *, is_open: bool) -> None:
    """From each start to the next end."""
    pulse = CronTrigger(
        name="pulse",
        start=parse_schedule("*/5 * * * *", timezone="UTC"),
        end=parse_schedule("1-59/5 * * * *", timezone="UTC"),
        desired_replicas=1,
    )

    assert pulse.is_open(at(instant)) is is_open


@pytest.mark.parametrize(
    ("start", "end", "is_open"),
    [
        pytest.param("0 0 1 * *", "0 0 30 2 *", False, id="no-end"),
        pytest.param("0 0 30 2 *", "0 0 1 * *", True, id="no-start"),
        pytest.param("0 18 * * *", "0 */6 * * *", True, id="both-at-once"),
    ],
)
def test_window_with_an_odd_side(start: str, end: str, *, is_open: bool) -> None:
    """Without an end ahead it is shut; with an end no later than the next start it is open."""
    trigger = CronTrigger(
        name="odd",
        start=parse_schedule(start, timezone="UTC"),
        end=parse_schedule(end, timezone="UTC"),
        desired_replicas=1,
    )

    assert trigger.is_open(at("2026-03-01T12:00:00")) is is_open
