"""What the tests of pods share: a namespace of their own on a running cluster, and its images."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.cluster import KubernetesCluster, KubernetesOptions
from shared.adapters.system.clock import SystemClock
from shared.domain.runtimes import Offer
from shared.ports.cluster import PodSpec
from tests.engines.images.executors import runtime_images
from tests.hostile.harness import NO_GRACE, pause

_NAMESPACES = "/api/v1/namespaces"
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "integr8s-test": "true"}


class PodCluster(KubernetesCluster):
    """A cluster that takes the specs of the registry, and runs them in the images that it has."""

    def __init__(self, options: KubernetesOptions) -> None:
        """Prepare."""
        super().__init__(options, clock=SystemClock())
        self.offer = options.offer

    @property
    def api(self) -> ApiServer:
        """Its way to the API server, for what the port does not show."""
        return self._api

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist, with the image that stands for the registry's."""
        runtime = spec.runtime
        if runtime.version in self.offer.versions(runtime.language):
            image = self.offer.image(runtime.language, runtime.version)
            spec = replace(spec, runtime=replace(runtime, image=image))
        await super().create(spec)

    async def object(self, name: str) -> Mapping[str, Any]:
        """Return a pod as the API server has it."""
        found = await self._api.get(f"{self._pods}/{name}")
        assert found is not None
        return found


def kubeconfig() -> Path:
    """Return how to reach the cluster under test; without it the test fails."""
    path = os.environ.get("KUBECONFIG")  # noqa: TID251 - how every tool of Kubernetes is told
    if not path:
        pytest.fail("KUBECONFIG is not set: ./taskw engines start kubernetes, then env")
    return Path(path)


def offer() -> Offer:
    """Return the languages that have an image on the test cluster."""
    images = runtime_images()
    return Offer({name: tuple(versions) for name, versions in images.items()}, images=images)


@asynccontextmanager
async def cluster(**more: Any) -> AsyncIterator[PodCluster]:
    """Open a cluster in a namespace of its own, where Pod Security is `restricted`."""
    api = ApiServer(credentials.find(kubeconfig()))
    offered = offer()
    async with _namespace(api) as name:
        opened = PodCluster(
            KubernetesOptions(
                namespace=name,
                offer=offered,
                canary_image=offered.image("bash", "5.2"),
                kubeconfig=kubeconfig(),
                **more,
            )
        )
        try:
            yield opened
        finally:
            await _remove_all(opened)
            await opened.close()
    await api.close()


@asynccontextmanager
async def _namespace(api: ApiServer) -> AsyncIterator[str]:
    name = f"integr8s-test-{os.getpid()}-{secrets.token_hex(3)}"
    await api.make(_NAMESPACES, {"metadata": {"name": name, "labels": _RESTRICTED}})
    # No pod is admitted before its namespace has an account.
    async with asyncio.timeout(20):
        while await api.get(f"{_NAMESPACES}/{name}/serviceaccounts/default") is None:
            await pause(0.02)
    try:
        yield name
    finally:
        await api.remove(f"{_NAMESPACES}/{name}")


async def _remove_all(opened: PodCluster) -> None:
    """Give every pod up, or its finaliser would hold the namespace."""
    for pod in await opened.list():
        await opened.delete(pod.name, grace=NO_GRACE)
