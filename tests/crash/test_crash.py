"""kill -9 of the whole embedded system, and up again on the same data directory."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.crash import harness
from tests.crash.harness import HELLO, LONG, QUICKLY, machine
from tests.ledger import ends_of, pause, submit_surely

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, harness.needs_sandbox]

_LOST = ("failed", "system_error")
_NEVER_BEGUN = ("error", "system_error")
"""Its sandbox was being made at the kill: it may have begun, so it is not made again."""
_WELL = ("completed", None)
_MIX = (
    (HELLO, "python"),
    (QUICKLY, "bash"),
    ("import sys, time\ntime.sleep(0.2)\nsys.exit(3)", "python"),
    ("import time\nfor n in range(5):\n    print(n, flush=True)\n    time.sleep(0.1)", "python"),
    ("import time\ntime.sleep(1.2)", "python"),
)
"""Scripts that are at different points of their way at any moment."""


async def test_fifty_running_scripts_each_come_to_one_end(tmp_path: Path) -> None:
    """Killed in the middle of fifty running scripts, the next start ends each of them, once."""
    async with machine(tmp_path, max_concurrent_executions=50, max_concurrent_per_user=50) as world:
        ids = [await world.submit(LONG) for _ in range(50)]
        await world.until_status(ids, "running", seconds=20)

        await world.crash()
        await world.until_no_process()
        await world.up()
        known = await world.until_at_rest()
        await world.down()

        assert ends_of(known, ids) == {_LOST}
        assert await world.violations() == []
        assert world.processes() == world.groups() == []


async def test_nothing_is_lost_at_random_moments(tmp_path: Path, chance: random.Random) -> None:
    """Killed three times while scripts wait, are launched, run and end: all come to one end."""
    async with machine(tmp_path) as world:
        ids: list[str] = []
        for _ in range(3):
            mix = chance.choices(_MIX, k=16)
            ids += [await world.submit(script, lang=lang) for script, lang in mix]
            await pause(chance.uniform(0, 1))
            await world.crash()
            await world.until_no_process()
            await world.up()
        known = await world.until_at_rest()
        await world.down()

        assert sorted(known) == sorted(ids)
        assert ends_of(known, ids) <= {_LOST, _NEVER_BEGUN, _WELL}
        assert await world.violations() == []
        assert world.processes() == world.groups() == []


async def test_every_answer_holds_after_kills_under_load(
    tmp_path: Path, chance: random.Random
) -> None:
    """Who repeats a request under its key until it is answered gets exactly one execution."""
    async with machine(tmp_path, queued_per_user=1000) as world:
        is_up = asyncio.Event()
        is_up.set()
        numbers = iter(range(160))

        async def load() -> list[str | None]:
            return [
                await submit_surely(
                    world, f"echo {number}", f"key-{number}", lang="bash", is_up=is_up
                )
                for number in numbers
            ]

        clients = [asyncio.create_task(load()) for _ in range(4)]
        for _ in range(3):
            await pause(chance.uniform(0, 0.25))
            is_up.clear()
            await world.crash()
            await world.up()
            is_up.set()
        answered = [one for answers in await asyncio.gather(*clients) for one in answers if one]
        known = await world.until_at_rest(seconds=40)
        await world.down()

        assert len(set(answered)) == len(answered) >= 140
        assert set(answered) <= set(known)
        assert await world.violations() == []


async def test_streams_go_on_without_redis(tmp_path: Path) -> None:
    """With its redis-server killed the system runs on: streams come to their end by the history."""
    slowly = "import time\nfor n in range(12):\n    print(n, flush=True)\n    time.sleep(0.1)"
    async with machine(tmp_path) as world:
        ids = [await world.submit(slowly) for _ in range(4)]
        await world.until_status(ids, "running", seconds=10)
        followers = [asyncio.create_task(world.follow(one)) for one in ids]

        world.kill_redis()
        ids.append(await world.submit(HELLO))
        followers.append(asyncio.create_task(world.follow(ids[-1])))
        streams = await asyncio.gather(*followers)
        known = await world.until_at_rest()
        await world.down()

        assert {stream.frames[-1].event_type for stream in streams} == {"end"}
        assert ends_of(known, ids) == {_WELL}
        assert await world.violations() == []


async def test_asked_to_stop_it_is_gone_in_time_and_goes_on_later(tmp_path: Path) -> None:
    """SIGTERM ends it in ten seconds: what ran is lost, what waited runs at the next start."""
    async with machine(tmp_path, max_concurrent_executions=3, max_concurrent_per_user=3) as world:
        running = [await world.submit(LONG) for _ in range(3)]
        await world.until_status(running, "running", seconds=10)
        waiting = [await world.submit(QUICKLY, lang="bash") for _ in range(5)]

        seconds, code = await world.down()
        left = (world.processes(), world.groups())
        await world.up()
        known = await world.until_at_rest()
        await world.down()

        assert code == 0
        assert seconds < 10
        assert left == ([], [])
        assert ends_of(known, running) == {_LOST}
        assert ends_of(known, waiting) == {_WELL}
        assert await world.violations() == []
