"""Putting software into the running cluster, and taking it out again."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.engines.engine import EngineError
from tests.engines.images.image import import_image
from tests.engines.kubernetes import engine as kubernetes

_MANAGER = "integr8s-engines"
_DIGEST = "integr8s.engines/manifests"
"""Annotation of a namespace: what was applied there to the end, as a digest."""

_READY_SECONDS = 180
_GONE_SECONDS = 60


def kubeconfig() -> Path:
    """Return the file by which the cluster is reached, there or not."""
    return Path(kubernetes.engine().environment()["KUBECONFIG"])


def is_up() -> bool:
    """Return whether the cluster answers."""
    if not kubeconfig().exists():
        return False
    with suppress(EngineError):
        return kubectl("get", "--raw=/readyz", "--request-timeout=5s") == "ok"
    return False


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run kubectl on the cluster as its administrator and return what it printed.

    Raises:
        EngineError: It failed, with what it said.
    """
    if not kubeconfig().exists():
        # Otherwise to ask whether something runs would begin with building kubectl for minutes.
        raise EngineError("the cluster was never started here: start kubernetes")
    command = [str(kubernetes.kubectl()), f"--kubeconfig={kubeconfig()}", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def rendered(folder: Path) -> str:
    """Return the manifests that a kustomization makes.

    Raises:
        EngineError: It is wrong, with what kubectl says of it.
    """
    return kubectl("kustomize", str(folder))


def bring_up(namespace: str, manifests: str, *, image: Path, webhooks: Sequence[str] = ()) -> None:
    """Have manifests applied and all of their Deployments roll out; see `install`.

    Raises:
        EngineError: The cluster refused something, or it did not become ready.
    """
    if import_image(image):
        restart(namespace)
    if not is_installed(namespace, manifests):
        install(namespace, manifests, webhooks)
    wait_rolled_out(namespace)


def is_installed(namespace: str, manifests: str) -> bool:
    """Return whether exactly these manifests were applied, to the end."""
    marked = f"jsonpath={{.metadata.annotations.{_DIGEST.replace('.', chr(92) + '.')}}}"
    with suppress(EngineError):
        return kubectl("get", "namespace", namespace, "--output", marked) == _digest(manifests)
    return False


def install(namespace: str, manifests: str, webhooks: Sequence[str] = ()) -> None:
    """Apply manifests, one of which is their namespace, and remember that they are there.

    Args:
        namespace: Where the Deployments among them are.
        manifests: All of it.
        webhooks: Those among them that the API asks about the others, each as ``kind/name``. If an
            older one does not answer, or does not like what is new, all of it is ended first.

    Raises:
        EngineError: The API refused something.
    """
    forget(namespace)
    try:
        apply(manifests)
    except EngineError:
        if not webhooks:
            raise
        uninstall(namespace, webhooks)
        apply(manifests)
    mark = f"{_DIGEST}={_digest(manifests)}"
    kubectl("annotate", "--overwrite", "namespace", namespace, mark)


def apply(manifests: str) -> None:
    """Make the cluster hold these objects, whoever else has written them before.

    By the server: the definitions of some types are too long for the note that a client leaves.

    Raises:
        EngineError: The API refused something.
    """
    owner = ("--server-side", "--force-conflicts", f"--field-manager={_MANAGER}")
    kubectl("apply", *owner, "--filename=-", text=manifests)


def wait_rolled_out(namespace: str) -> None:
    """Wait until all Deployments of a namespace run what they are told to run, and nothing else.

    Raises:
        EngineError: They did not in time, with the state of their pods.
    """
    try:
        names = kubectl("get", "deployments", f"--namespace={namespace}", "--output=name").split()
        for name in names:
            limit = f"--timeout={_READY_SECONDS}s"
            kubectl("rollout", "status", name, f"--namespace={namespace}", limit)
    except EngineError as error:
        pods = kubectl("get", "pods", f"--namespace={namespace}")
        raise EngineError(f"{error}\nPods of {namespace}:\n{pods}") from error


def ready_pods(namespace: str) -> str:
    """Return how many pods of a namespace that are not ending are ready, as "3 of 3"."""
    listed = json.loads(kubectl("get", "pods", f"--namespace={namespace}", "--output=json"))
    pods = [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]
    return f"{sum(map(_is_ready, pods))} of {len(pods)}"


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def address_of(namespace: str, service: str) -> str:
    """Return the address that a Service has for everybody on the node.

    Raises:
        EngineError: There is no such Service.
    """
    wanted = ("--output=jsonpath={.spec.clusterIP}", f"--namespace={namespace}")
    return kubectl("get", f"service/{service}", *wanted)


def restart(namespace: str) -> None:
    """End all pods of a namespace; what keeps them starts new ones, of the image that is there now.

    A tag that names another image than before changes nothing for pods that run.
    """
    kubectl(
        "delete", "pods", "--all", f"--namespace={namespace}", "--grace-period=1", "--wait=false"
    )


def uninstall(namespace: str, first: Sequence[str]) -> None:
    """Leave nothing of it running, and nothing that the API would ask; absent is fine.

    Its namespace stays, and what is no process in it: deleting a namespace takes five seconds at
    least, and what is there does no harm.

    Args:
        namespace: Where its Deployments are.
        first: What has to go before them, each named as ``kind/name``.

    Raises:
        EngineError: Something is still there after a minute.
    """
    forget(namespace)
    limit = f"--timeout={_GONE_SECONDS}s"
    for one in first:
        kubectl("delete", one, "--ignore-not-found", "--wait", limit)
    # In the foreground: the Deployment is gone when its pods are.
    everything = ("deployments", "--all", f"--namespace={namespace}", "--cascade=foreground")
    kubectl("delete", *everything, "--wait", limit)


def forget(namespace: str) -> None:
    """Take the mark of `install` away: from now on it is not complete."""
    if kubectl("get", "namespace", namespace, "--ignore-not-found", "--output=name"):
        kubectl("annotate", "namespace", namespace, f"{_DIGEST}-")


def _digest(manifests: str) -> str:
    return hashlib.sha256(manifests.encode()).hexdigest()
