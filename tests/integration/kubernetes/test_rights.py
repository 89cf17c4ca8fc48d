"""The launcher and the monitor, each with the rights that the manifests give it and no other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.domain.errors import TemporaryError
from shared.ports.cluster import Cause
from tests.hostile import harness
from tests.hostile.harness import NO_GRACE
from tests.integration.kubernetes import pods

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ACCOUNTS = Path(__file__).parents[3] / "knative" / "10-accounts.yaml"
PACE = 6.0


@dataclass
class Roles:
    """One cluster, as each of its two users sees it."""

    owner: pods.PodCluster
    launcher: pods.PodCluster
    monitor: pods.PodCluster


def manifests(account: str) -> list[dict[str, Any]]:
    """Return what the manifests give an account."""
    found = [one for one in yaml.safe_load_all(ACCOUNTS.read_text()) if one is not None]
    return [one for one in found if one["metadata"]["name"] == account]


async def signed_in(owner: pods.PodCluster, account: str) -> pods.PodCluster:
    """Give an account its rights in the test's namespace, and return what it can see of it."""
    token = await owner.token_of(account, manifests(account))
    found = credentials.find(pods.kubeconfig())
    # The certificate of the kubeconfig would win over any token.
    access = replace(found, trust=pods.without_certificate(), token=lambda: f"Bearer {token}")
    return pods.PodCluster(owner.options, api=ApiServer(access))


@pytest.fixture
async def roles() -> AsyncIterator[Roles]:
    """A launcher and a monitor."""
    async with pods.cluster() as owner:
        launcher, monitor = [
            await signed_in(owner, account) for account in ("launch-pod", "monitor-pods")
        ]
        yield Roles(owner, launcher, monitor)
        await launcher.close()
        await monitor.close()


async def test_rights_suffice_for_a_run(roles: Roles) -> None:
    """From its creation over a cancel to its clean-up."""
    await asyncio.gather(roles.launcher.ping(), roles.monitor.ping())
    watch = harness.Watch(roles.monitor, pace=PACE)
    await roles.launcher.create(harness.spec("run", "import time; print(1); time.sleep(60)"))
    await watch.until(lambda: bool(watch.of("run").chunks), 10, "it prints")
    await roles.launcher.delete("exec-run", grace=timedelta(seconds=1), cancel=True)
    seen = await watch.ended("run")
    await roles.launcher.delete("exec-run", grace=NO_GRACE)
    await watch.until(lambda: seen.last.deleted, 5, "it is gone")
    await watch.close()

    assert seen.end.cause is Cause.CANCELLED
    assert await roles.owner.inputs() == []


async def test_rights_of_the_monitor_suffice_for_its_sweep(roles: Roles) -> None:
    """It removes what nobody answers for, finaliser and inputs included."""
    await roles.launcher.create(harness.spec("left", "print(1)"))
    await roles.monitor.delete("exec-left", grace=NO_GRACE)

    assert await roles.monitor.list() == []
    assert await roles.monitor.sweep(timedelta(0)) == []
    assert await roles.owner.inputs() == []


async def test_rights_of_the_launcher_suffice_for_its_canary(roles: Roles) -> None:
    """Which it sends ahead of every script."""
    assert isinstance(await roles.launcher.canary(), tuple)


async def test_rights_are_no_more_than_that(roles: Roles) -> None:
    """Neither may do the other's work."""
    with pytest.raises(TemporaryError, match="cannot list"):
        await roles.launcher.list()
    with pytest.raises(TemporaryError, match="cannot create"):
        await roles.monitor.create(harness.spec("not", "print(1)"))
