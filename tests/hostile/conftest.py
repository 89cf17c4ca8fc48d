"""A started sandbox for each hostile test, which is seen to leave nothing behind."""

from collections.abc import AsyncIterator

import pytest

from shared.adapters.sandbox.cluster import SandboxCluster
from tests.hostile import harness


@pytest.fixture
async def cluster() -> AsyncIterator[SandboxCluster]:
    """A probed sandbox cluster; afterwards the machine is as it was."""
    # A test before this one may have killed what others than us have to reap.
    await harness.until(lambda: harness.footprint().processes == 0, 5, "nobody is left")
    before = harness.footprint()
    async with harness.sandbox() as started:
        yield started
    await harness.until(lambda: harness.footprint() == before, 5, f"as before: {before}")


@pytest.fixture
async def watch(cluster: SandboxCluster) -> AsyncIterator[harness.Watch]:
    """A watch from the beginning."""
    watching = harness.Watch(cluster)
    await harness.pause(0)
    yield watching
    await watching.close()
