"""The hostile scripts of the sandbox, in pods."""

from collections.abc import AsyncIterator

import pytest

from shared.ports.cluster import Cause
from tests.hostile import harness
from tests.hostile.expectations import TABLE, Expected, run_in_company
from tests.integration.kubernetes import pods

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PACE = 6.0
NETWORK = "h35_network"
"""Runs apart: what answers it depends on what enforces the policy."""
OTHERWISE = {
    # Nothing enforces the policy here, so that the filter refuses every socket, its own too.
    NETWORK: {"says": (b"refused tcp4",), "causes": (Cause.EXIT,)},
}


@pytest.fixture
async def cluster() -> AsyncIterator[pods.PodCluster]:
    """Pods with a uid each, which is what lets the kernel count their processes apart."""
    async with pods.cluster(first_uid=1_000_000) as opened:
        yield opened


@pytest.fixture
async def watch(cluster: pods.PodCluster) -> AsyncIterator[harness.Watch]:
    """A watch from the beginning."""
    watching = harness.Watch(cluster, pace=PACE)
    await harness.pause(0)
    yield watching
    await watching.close()


@pytest.mark.parametrize("expected", [row for row in TABLE if row.script not in OTHERWISE], ids=str)
async def test_script_comes_to_nothing(
    cluster: pods.PodCluster, watch: harness.Watch, expected: Expected
) -> None:
    """It ends as in a sandbox, opens nothing, and disturbs neither neighbour nor successor."""
    await run_in_company(cluster, watch, expected)
