"""What the tests of pods share: a namespace of their own on a running cluster, and its images."""

import asyncio
import base64
import json
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.adapters.kubernetes import credentials, evidence, objects
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

    def __init__(self, options: KubernetesOptions, *, api: ApiServer | None = None) -> None:
        """Prepare."""
        super().__init__(options, clock=SystemClock(), api=api)
        self.options = options

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist, with the image that stands for the registry's."""
        runtime = spec.runtime
        if runtime.version in self.options.offer.versions(runtime.language):
            image = self.options.offer.image(runtime.language, runtime.version)
            spec = replace(spec, runtime=replace(runtime, image=image))
        await super().create(spec)

    # Below: what an operator, a controller or another process would do.

    async def change(self, name: str, change: Mapping[str, Any]) -> None:
        """Change a pod."""
        assert await self._api.patch(f"{self._pods}/{name}", change) is not None

    async def remove(self, name: str, *, grace_seconds: int | None = None) -> None:
        """Delete a pod as anybody may who has the right."""
        await self._api.remove(f"{self._pods}/{name}", grace_seconds=grace_seconds)

    async def until_ended(self, name: str) -> None:
        """Wait until the cluster itself has seen the end of a pod."""
        while not evidence.has_ended(await self._api.get(f"{self._pods}/{name}") or {}):
            await pause(0.1)

    async def inputs(self) -> list[str]:
        """Return the names of all inputs."""
        found = await self._api.all(self._config_maps, objects.SELECTOR)
        return [evidence.name_of(one) for one in found]

    async def set_quota(self, hard: Mapping[str, str]) -> None:
        """Bound what the namespace may have, and wait until that is counted."""
        path = f"{_NAMESPACES}/{self.namespace}/resourcequotas"
        quota = {"metadata": {"name": "bound"}, "spec": {"hard": hard}}
        await self._api.make(path, quota)
        async with asyncio.timeout(20):
            while "used" not in (await self._api.get(f"{path}/bound") or {}).get("status", {}):
                await pause(0.05)

    async def token_of(self, account: str, manifests: Sequence[Mapping[str, Any]]) -> str:
        """Make an account with its rights in this namespace, and sign in as it."""
        base = f"{_NAMESPACES}/{self.namespace}/serviceaccounts"
        rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        paths = {
            "ServiceAccount": base,
            "Role": f"{rights}/roles",
            "RoleBinding": f"{rights}/rolebindings",
        }
        for manifest in manifests:
            one = json.loads(json.dumps(manifest))
            one["metadata"]["namespace"] = self.namespace
            for subject in one.get("subjects", ()):
                subject["namespace"] = self.namespace
            await self._api.make(paths[one["kind"]], one)
        asked = await self._api.make(f"{base}/{account}/token", {"spec": {}})
        assert asked is not None
        return str(asked["status"]["token"])

    @asynccontextmanager
    async def another(self) -> AsyncIterator["PodCluster"]:
        """Open what another process would have open: the same namespace, and no memory."""
        opened = PodCluster(self.options)
        yield opened
        await opened.close()


def kubeconfig() -> Path:
    """Return how to reach the cluster under test; without it the test fails."""
    path = os.environ.get("KUBECONFIG")  # noqa: TID251 - how every tool of Kubernetes is told
    if not path:
        pytest.fail("KUBECONFIG is not set: ./taskw engines start kubernetes, then env")
    return Path(path)


def without_certificate() -> ssl.SSLContext:
    """Return what the cluster under test is trusted by, with no certificate of our own."""
    config = yaml.safe_load(kubeconfig().read_text())
    text = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    return ssl.create_default_context(cadata=text.decode())


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
                kubeconfig=kubeconfig(),
                **{"canary_image": offered.image("bash", "5.2"), **more},
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
