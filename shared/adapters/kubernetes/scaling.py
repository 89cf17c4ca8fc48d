"""What KEDA and Kubernetes say about the functions' replicas, for who looks at them.

Two plain requests: the official client would cost the gateway half a second of its start.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import Answer, ApiServer
from shared.domain.errors import StartupError, TemporaryError
from shared.ports.scaling import Workload

_SELECTOR = "app=integr8s"
_A_WHILE = timedelta(seconds=10)
"""A wait where a person has to act first."""


class KubernetesWorkloads:
    """Reads Deployments and ScaledObjects of one namespace."""

    def __init__(self, namespace: str, *, api: ApiServer | None = None) -> None:
        """Prepare; nothing is connected yet.

        Args:
            namespace: Where the functions are.
            api: The API server; the one that this process finds if not given.
        """
        self._namespace, self._api = namespace, api

    async def all(self) -> Sequence[Workload]:
        """Return every function that KEDA scales, by slug.

        Raises:
            TemporaryError: There was no answer, this process may not ask, or KEDA is missing.
        """
        keda, apps = "/apis/keda.sh/v1alpha1", "/apis/apps/v1"
        scaled = await self._list(f"{keda}/namespaces/{self._namespace}/scaledobjects")
        running = await self._list(f"{apps}/namespaces/{self._namespace}/deployments")
        replicas: dict[str, int] = {
            one["metadata"]["name"]: one.get("status", {}).get("replicas", 0) for one in running
        }
        found = [_workload(one, replicas) for one in scaled]
        return sorted(found, key=lambda workload: workload.slug)

    async def close(self) -> None:
        """Hang up."""
        if self._api is not None:
            await self._api.close()

    async def _list(self, path: str) -> Sequence[Mapping[str, Any]]:
        try:
            return await self._connected().all(path, _SELECTOR)
        except TemporaryError as error:
            cause = error.__cause__
            if isinstance(cause, Answer) and cause.is_gone and "keda.sh" in path:
                raise TemporaryError(
                    "this cluster has no ScaledObjects: install KEDA, then apply keda/",
                    retry_after=_A_WHILE,
                ) from error
            raise

    def _connected(self) -> ApiServer:
        if self._api is None:
            try:
                self._api = ApiServer(credentials.find())
            except StartupError as error:
                raise TemporaryError(f"{error}", retry_after=_A_WHILE) from error
        return self._api


def _workload(scaled: Mapping[str, Any], replicas: Mapping[str, int]) -> Workload:
    spec, status = scaled["spec"], scaled.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}

    def holds(kind: str) -> bool:
        return bool(conditions.get(kind, {}).get("status") == "True")

    name = scaled["metadata"]["name"]
    return Workload(
        slug=name,
        replicas=replicas.get(spec["scaleTargetRef"]["name"], 0),
        min_replicas=spec.get("minReplicaCount", 0),
        max_replicas=spec.get("maxReplicaCount", 100),
        active=holds("Active"),
        last_active_at=_moment(status.get("lastActiveTime")),
        cooldown=timedelta(seconds=spec.get("cooldownPeriod", 300)),
        paused=holds("Paused"),
        ready=holds("Ready"),
        message=str(conditions.get("Ready", {}).get("message", "")),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
