"""Knative Serving in the one-node cluster, and the types of Eventing to check manifests against."""

import http.client
import shutil
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from tests.engines.addons import cluster, golang
from tests.engines.build_cache import built
from tests.engines.engine import Engine, EngineError
from tests.engines.images.image import Config, import_image, write_image, write_layer
from tests.engines.kubernetes import pod_logs
from tests.engines.process import wait_ready

_NAME = "knative"
_NAMESPACE = "knative-serving"
_HERE = Path(__file__).parent

_VERSION = "0.42.2"  # of knative.dev/serving in go.mod
_IMAGE = f"localhost/knative:{_VERSION}"
_SIDECAR = f"localhost/knative-queue:{_VERSION}"
"""Beside every container of a revision. An image of its own: it is started without a command."""

_CONTROL = ("activator", "autoscaler", "controller", "webhook")
_RELEASES = (
    "cmd/operator/kodata"  # where the module knative.dev/operator has the released manifests
)
_SERVING = "knative-serving/1.15.2/2-serving-core.yaml"  # what 0.42.2 is called when it is released
_EVENTING = (
    "knative-eventing/1.15.0/1-eventing-crds.yaml",
    "eventing-source/1.15/kafka/eventing-kafka-controller.yaml",
)
_CILIUM = "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml"
_DECLARED = (
    "brokers.eventing.knative.dev",
    "ciliumnetworkpolicies.cilium.io",
    "kafkasinks.eventing.knative.dev",
    "kafkasources.sources.knative.dev",
    "pingsources.sources.knative.dev",
    "sinkbindings.sources.knative.dev",
    "triggers.eventing.knative.dev",
)
"""Types that manifests of the project may use and nobody here serves: the API checks such objects,
and that is all that happens to them."""

_WEBHOOKS = (
    "mutatingwebhookconfiguration/webhook.serving.knative.dev",
    "validatingwebhookconfiguration/config.webhook.serving.knative.dev",
    "validatingwebhookconfiguration/validation.webhook.serving.knative.dev",
)


_PROBE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: probe, namespace: default}
spec: {template: {spec: {containers: [{image: dev.local/probe}]}}}
"""


class KnativeEngine:
    """Runs HTTP services that start with the first request and end with the last."""

    name = _NAME
    needs = ("kubernetes",)

    def lacks(self) -> list[str]:
        """Return what this machine is missing, each one line with its remedy."""
        return golang.lacks()

    def build(self) -> None:
        """Build the programs and their images, and keep the manifests of the same release."""
        _built()

    def start(self) -> None:
        """Install it unless it is there; return when all of its parts are ready.

        Raises:
            EngineError: The cluster refused it, or it did not become ready.
        """
        release = _built()
        import_image(release / "sidecar.tar")
        cluster.bring_up(
            _NAMESPACE, _rendered(release), image=release / "control.tar", webhooks=_WEBHOOKS
        )
        wait_ready("Knative Serving", _ask_all, seconds=60)

    def check(self) -> str:
        """Return one line about what answers.

        Raises:
            EngineError: A part does not.
        """
        _ask_all()
        return f"Knative Serving {_VERSION}, {cluster.ready_pods(_NAMESPACE)} pods ready"

    def stop(self) -> None:
        """End all of it; nothing happens where the cluster does not run.

        The types stay, and so do services and their pods: they are looked after again at the next
        start.

        Raises:
            EngineError: Something of it is still there.
        """
        if cluster.is_up():
            # First what the API asks before every change: without an answer it refuses.
            cluster.uninstall(_NAMESPACE, _WEBHOOKS)

    def logs(self) -> list[Path]:
        """Return those of its pods."""
        return pod_logs.logs_in(_NAMESPACE)

    def environment(self) -> dict[str, str]:
        """Return nothing: `tests.engines.knative.call` finds the way to a service."""
        return {}


def engine() -> Engine:
    """Return the engine of this folder."""
    return KnativeEngine()


# ------------------------------------------------------------------------------------------- build


def _built() -> Path:
    """Return the folder with both images and the manifests."""
    sources = (_HERE / name for name in ("go.mod", "go.sum", "ingress", "definitions"))
    inputs: list[Path | str] = [*sources, *golang.FLAGS, golang.version()]
    return built("knative", [*inputs, Path(__file__)], _build)


def _build(folder: Path) -> None:
    released = golang.module(_HERE, "knative.dev/operator") / _RELEASES
    shutil.copyfile(released / _SERVING, folder / "serving.yaml")
    cilium = golang.module(_HERE / "definitions", "github.com/cilium/cilium") / _CILIUM
    files = [*(released / name for name in _EVENTING), cilium]
    (folder / "definitions.yaml").write_text(yaml.safe_dump_all(_declared(files)))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _build_images(Path(scratch), folder)


def _declared(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["metadata"]["name"] in _DECLARED:
                yield document


def _build_images(scratch: Path, folder: Path) -> None:
    # Not one program for all: each starts watching all that any package it was linked with wants to
    # see, and ends when it was not told which part of it.
    programs = [f"knative.dev/serving/cmd/{name}" for name in (*_CONTROL, "queue")]
    golang.build(_HERE, [*programs, "./ingress"], scratch)
    names = (*_CONTROL, "ingress")
    _write_image(folder / "control.tar", _IMAGE, {name: scratch / name for name in names})
    entry = Config(entrypoint=["/queue"])
    _write_image(folder / "sidecar.tar", _SIDECAR, {"queue": scratch / "queue"}, entry)


def _write_image(
    archive: Path, tag: str, content: dict[str, Path], config: Config | None = None
) -> None:
    layer = write_layer(archive.with_suffix(".layer"), content, keep_times=False)
    write_image(archive, tag=tag, layers=[layer], config=config or Config())
    layer.archive.unlink()


# ----------------------------------------------------------------------------------------- cluster


def _ask_all() -> None:
    """Ask those parts that a service needs at every moment: admission, activator and ingress.

    Raises:
        EngineError: One gives no answer, or not the right one.
    """
    cluster.kubectl("create", "--dry-run=server", "--output=name", "--filename=-", text=_PROBE)
    for service, path in (("activator-service", "/"), ("ingress", "/health/readiness.ingress")):
        address = cluster.address_of(_NAMESPACE, service)
        if (status := _status(address, path)) != HTTPStatus.OK:
            raise EngineError(f"the {service} of Knative answers {status}: stop and start it")


def _status(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        # The activator answers this by itself; everything else it takes to a revision.
        connection.request("GET", path, headers={"K-Kubelet-Probe": "tests"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(
            f"{address} of Knative gives no answer ({error}): stop and start it"
        ) from error
    finally:
        connection.close()


def _rendered(release: Path) -> str:
    # Kustomize reads no file outside the folder it was given, hence copies.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("kustomization.yaml", "ingress.yaml"):
            shutil.copy(_HERE / name, folder)
        (folder / "release").mkdir()
        shutil.copy(release / "serving.yaml", folder / "release")
        definitions = (release / "definitions.yaml").read_text()
        return f"{definitions}---\n{cluster.rendered(folder)}"
