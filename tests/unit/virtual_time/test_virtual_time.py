"""The loop on which scenarios and simulation run: time is free, and nothing else is different."""

import asyncio
import time
from datetime import timedelta

import pytest

from tests.virtual_time import EPOCH, CountedIds, Deadlock, LoopClock, run_virtually


def test_an_hour_takes_no_time() -> None:
    """Sleeping moves the clock, and nobody waits."""
    before = time.monotonic()

    async def sleep() -> timedelta:
        await LoopClock().sleep(timedelta(hours=1))
        return LoopClock().now() - EPOCH

    assert run_virtually(sleep()) == pytest.approx(timedelta(hours=1), abs=timedelta(seconds=0.01))
    assert time.monotonic() - before < 1


def test_sleepers_wake_in_their_order() -> None:
    """Whoever sleeps shorter wakes first, whoever began first."""
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await LoopClock().sleep(timedelta(seconds=seconds))
        woken.append(seconds)

    async def main() -> None:
        await asyncio.gather(sleep(3), sleep(1), sleep(2))

    run_virtually(main())

    assert woken == [1, 2, 3]


def test_timeouts_are_virtual_too() -> None:
    """A time limit of the loop passes at once where nothing else happens."""

    async def wait() -> None:
        async with asyncio.timeout(1000):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_virtually(wait())


def test_a_deadlock_is_an_error() -> None:
    """Waiting for what cannot happen fails instead of hanging."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtually(wait())


def test_ids_rise_and_repeat() -> None:
    """They are uuid7s in rising order, the same ones in every run."""

    async def some() -> list[str]:
        ids = CountedIds()
        return [ids.new() for _ in range(100)]

    first = run_virtually(some())

    assert first == sorted(set(first)) == run_virtually(some())
    assert {text[14] for text in first} == {"7"}
