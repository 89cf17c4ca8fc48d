"""What KEDA and Kubernetes say about the functions' replicas, for the gateway's view of them.

Two plain requests with the pod's own account: the official client would cost the gateway half a
second of its start.
"""

import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from shared.domain.errors import TemporaryError
from shared.ports.scaling import Workload

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet keeps the pod's token, which it renews, and the certificate of the API."""
_API = "https://kubernetes.default.svc"
_PATIENCE = timedelta(seconds=5)
_SELECTOR = "app=integr8s"


class KubernetesWorkloads:
    """Reads Deployments and ScaledObjects of one namespace."""

    def __init__(self, namespace: str, *, account: Path = _ACCOUNT, api: str = _API) -> None:
        """Prepare; nothing is connected yet."""
        self._namespace, self._account, self._api = namespace, account, api
        self._client: httpx2.AsyncClient | None = None

    async def all(self) -> Sequence[Workload]:
        """Return every function that KEDA scales, by slug.

        Raises:
            TemporaryError: The API gave no answer, or this process may not ask it.
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
        if self._client is not None:
            await self._client.aclose()

    async def _list(self, path: str) -> Sequence[Mapping[str, Any]]:
        try:
            token = (self._account / "token").read_text(encoding="ascii").strip()
            answer = await self._connected().get(
                path,
                params={"labelSelector": _SELECTOR},
                headers={"Authorization": f"Bearer {token}"},
            )
        except OSError as error:
            raise TemporaryError("this process has no account at the Kubernetes API") from error
        except httpx2.HTTPError as error:
            raise TemporaryError(f"the Kubernetes API gave no answer: {error!r:.200}") from error
        if answer.status_code != httpx2.codes.OK:
            raise TemporaryError(f"the Kubernetes API answered {answer.status_code} to {path}")
        items: Sequence[Mapping[str, Any]] = answer.json()["items"]
        return items

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            trusted = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
            self._client = httpx2.AsyncClient(
                base_url=self._api, verify=trusted, timeout=_PATIENCE.total_seconds()
            )
        return self._client


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
