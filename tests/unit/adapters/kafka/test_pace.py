"""How soon after records more is asked for."""

from shared.adapters.kafka.pace import (
    BRISK_RECORDS,
    BRISK_SECONDS,
    SOON_SECONDS,
    SPARE_POLLS,
    STEADY_SECONDS,
    Pace,
)


def rests(
    pace: Pace,
    count: int,
    *,
    start: float = 1_000.0,
    between: float = 0.0,
    records: int = 1,
) -> list[float]:
    """Return the rests after polls that all find something, each as soon as it may be."""
    now, found = start, []
    for _ in range(count):
        found.append(pace.rest(now, records))
        now += found[-1] + between
    return found


def test_a_few_records_are_followed_up_soon() -> None:
    """All that one execution makes happen, for example."""
    assert rests(Pace(), SPARE_POLLS) == [SOON_SECONDS] * SPARE_POLLS


def test_a_steady_flow_gathers() -> None:
    """Most of its polls are a quarter of a second apart."""
    found = rests(Pace(), 200)[SPARE_POLLS:]

    assert found.count(STEADY_SECONDS) > 0.7 * len(found)


def test_a_strong_flow_waits_less() -> None:
    """Many wait behind each other there, and each poll finds enough to be worth its effort."""
    found = rests(Pace(), 200, records=BRISK_RECORDS)[SPARE_POLLS:]

    assert found.count(BRISK_SECONDS) > 0.7 * len(found)
    assert STEADY_SECONDS not in found


def test_what_comes_now_and_then_never_waits() -> None:
    """However long that goes on."""
    assert set(rests(Pace(), 200, between=1.0)) == {SOON_SECONDS}


def test_after_a_quiet_time_it_is_as_at_first() -> None:
    """And not better: nobody saves up for a day."""
    pace = Pace()
    rests(pace, 200)

    found = rests(pace, 2 * SPARE_POLLS, start=90_000.0)

    assert found[:SPARE_POLLS] == [SOON_SECONDS] * SPARE_POLLS
    assert STEADY_SECONDS in found
