"""What a process does until it is asked to stop."""

import asyncio
from datetime import timedelta

import pytest

from shared.domain.errors import StartupError
from shared.runtime.process import unless
from tests.virtual_time import LoopClock, run_virtually


def test_work_that_ends_first_is_done() -> None:
    """And what it raises is raised."""

    async def test() -> None:
        asked = asyncio.Event()

        async def fail() -> None:
            raise StartupError("No.", remedy="Yes.")

        assert await unless(asked, LoopClock().sleep(timedelta(seconds=1)))
        with pytest.raises(StartupError):
            await unless(asked, fail())

    run_virtually(test())


def test_work_ends_when_the_process_is_asked_to_stop() -> None:
    """After it has put away what it had begun."""

    async def test() -> None:
        asked, put_away = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                await LoopClock().sleep(timedelta(hours=1))
            finally:
                put_away.set()

        asyncio.get_running_loop().call_later(2, asked.set)

        assert not await unless(asked, work())

        assert put_away.is_set()
        assert LoopClock().monotonic() < 3

    run_virtually(test())
