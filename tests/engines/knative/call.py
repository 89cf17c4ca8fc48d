"""How this machine, to which the cluster's names mean nothing, calls a Knative Service."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.engines.engine import EngineError
from tests.engines.kubernetes.engine import kubectl

_NAMESPACE = "knative-serving"


@dataclass(frozen=True)
class Route:
    """A way to a service: every request to `url` that carries `headers` ends at it."""

    url: str
    """Without a slash at the end."""
    headers: dict[str, str]


def route(kubeconfig: Path, namespace: str, service: str) -> Route:
    """Return the way that callers in the cluster take: by the service's name, at the ingress.

    The service may sleep; the first request wakes it.

    Raises:
        EngineError: There is no such service, or it is not ready.
    """
    found = _get(kubeconfig, namespace, f"services.serving.knative.dev/{service}")
    address = found.get("status", {}).get("address", {}).get("url")
    if not address:
        raise EngineError(f"Knative Service {namespace}/{service} has no address: wait for Ready")
    host = urlsplit(address).hostname or ""
    return Route(_url_of(kubeconfig, "ingress"), {"Host": host})


def route_to_revision(kubeconfig: Path, namespace: str, revision: str) -> Route:
    """Return the way to one revision, past the ingress and past the division of traffic.

    Raises:
        EngineError: There is no such revision.
    """
    _get(kubeconfig, namespace, f"revisions.serving.knative.dev/{revision}")
    headers = {
        "Host": f"{revision}.{namespace}.svc.cluster.local",
        "Knative-Serving-Namespace": namespace,
        "Knative-Serving-Revision": revision,
    }
    return Route(_url_of(kubeconfig, "activator-service"), headers)


def _url_of(kubeconfig: Path, service: str) -> str:
    """Return the address that a Service of Knative itself has for everybody on this node."""
    return f"http://{_get(kubeconfig, _NAMESPACE, f'service/{service}')['spec']['clusterIP']}"


def _get(kubeconfig: Path, namespace: str, name: str) -> dict[str, Any]:
    command = [str(kubectl()), f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
    done = subprocess.run(
        [*command, "get", name, "--output=json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EngineError(f"{name} of {namespace} cannot be read: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
