"""Scenarios run on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta

import pytest

from shared.adapters.scripted.cluster import Play, by_script
from shared.domain.execution_settings import ExecutionSettings
from tests.scenarios.system import System
from tests.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every coroutine of this folder on a loop that never waits."""
    del config, item
    return {"virtual": VirtualLoop}


@pytest.fixture
def plays() -> dict[str, Play]:
    """Return what scripts do, by their text; a test adds its own."""
    return {"long": Play(running=timedelta(seconds=20), prints=(("stdout", b"tick\n"),) * 3)}


@pytest.fixture
def limits() -> ExecutionSettings:
    """Return small limits, so that few executions reach them."""
    return ExecutionSettings(
        max_concurrent_executions=2, max_concurrent_per_user=2, queued_per_user=3, queue_length=5
    )


@pytest.fixture
async def asleep(plays: dict[str, Play], limits: ExecutionSettings) -> AsyncIterator[System]:
    """Return the whole system, no function running."""
    system = System(settings=limits, policy=by_script(plays))
    yield system
    await system.stop()
    assert system.bugs == []


@pytest.fixture
async def system(asleep: System) -> System:
    """Return the whole system, every function awake."""
    asleep.start()
    return asleep
