"""What a cluster has of an installation, read from its API server."""

from collections.abc import Sequence
from typing import Any

import httpx2

from shared.adapters.kubernetes import evidence, objects
from shared.adapters.kubernetes.api import Answer, ApiServer
from shared.adapters.kubernetes.scaling import KubernetesWorkloads
from shared.domain.errors import PermanentError
from shared.ports.cluster import Pod
from shared.ports.installation import Namespace
from shared.ports.scaling import Workload

_ENFORCED = "pod-security.kubernetes.io/enforce"
_NOT_ALLOWED = frozenset({httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN})


class KubernetesInstallation:
    """Reads one namespace, and which types the API server knows."""

    def __init__(self, namespace: str, api: ApiServer) -> None:
        """Prepare; nothing is asked yet."""
        self._namespace, self._api = namespace, api
        self._workloads = KubernetesWorkloads(namespace, api=api)

    async def namespace(self) -> Namespace | None:
        """Return the namespace, None where it is not there."""
        found = await self._get(f"/api/v1/namespaces/{self._namespace}")
        if found is None:
            return None
        networking = f"/apis/networking.k8s.io/v1/namespaces/{self._namespace}"
        policies = await self._get(f"{networking}/networkpolicies") or {"items": ()}
        labels = found["metadata"].get("labels", {})
        return Namespace(
            self._namespace,
            labels.get(_ENFORCED, ""),
            frozenset(one["metadata"]["name"] for one in policies["items"]),
        )

    async def has_keda(self) -> bool:
        """Say whether there may be ScaledObjects."""
        return await self._knows("keda.sh/v1alpha1", "scaledobjects")

    async def has_knative(self) -> bool:
        """Say whether there may be Knative Services."""
        return await self._knows("serving.knative.dev/v1", "services")

    async def workloads(self) -> Sequence[Workload]:
        """Return every function that KEDA scales."""
        return await self._workloads.all()

    async def pods(self) -> Sequence[Pod]:
        """Return every pod of a script."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return [evidence.listed(pod) for pod in await self._api.all(path, objects.SELECTOR)]

    async def close(self) -> None:
        """Hang up."""
        await self._api.close()

    async def _knows(self, group: str, plural: str) -> bool:
        found = await self._get(f"/apis/{group}") or {"resources": ()}
        return any(one["name"] == plural for one in found["resources"])

    async def _get(self, path: str) -> dict[str, Any] | None:
        """Return what is there, None if nothing is.

        Raises:
            PermanentError: This process may not ask.
            TemporaryError: There was no answer.
        """
        try:
            return await self._api.call("GET", path)
        except Answer as answer:
            if answer.is_gone:
                return None
            if answer.status in _NOT_ALLOWED:
                raise PermanentError(f"this account may not read {path}") from answer
            raise answer.as_ours() from answer
