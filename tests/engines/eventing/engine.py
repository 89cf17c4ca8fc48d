"""Knative Eventing in the one-node cluster: sources of time, and a Broker that keeps all in memory.

The Broker for Kafka is no Go program. This one treats subscribers by the same rules, among them
which answer is a success, which is tried again, and what reaches the sink for dead letters.
"""

import shutil
import tempfile
from pathlib import Path

from tests.engines.addons import cluster, golang
from tests.engines.build_cache import built
from tests.engines.engine import Engine
from tests.engines.images.image import Config, write_image, write_layer
from tests.engines.kubernetes import pod_logs
from tests.engines.process import wait_ready

_NAME = "eventing"
_NAMESPACE = "knative-eventing"
_HERE = Path(__file__).parent

_VERSION = "0.42.1"  # of knative.dev/eventing in go.mod
_IMAGE = f"localhost/knative-eventing:{_VERSION}"
_PROGRAMS = (
    "broker/filter",
    "broker/ingress",
    "controller",
    "in_memory/channel_controller",
    "in_memory/channel_dispatcher",
    "mtchannel_broker",
    "mtping",
    "webhook",
)
_RELEASE = "cmd/operator/kodata/knative-eventing/1.15.0"  # in the module knative.dev/operator
_MANIFESTS = (
    "2-eventing-core.yaml",
    "4-in-memory-channel.yaml",
    "5-mt-channel-broker.yaml",
)
_WEBHOOKS = (
    "mutatingwebhookconfiguration/inmemorychannel.eventing.knative.dev",
    "mutatingwebhookconfiguration/sinkbindings.webhook.sources.knative.dev",
    "mutatingwebhookconfiguration/webhook.eventing.knative.dev",
    "validatingwebhookconfiguration/config.webhook.eventing.knative.dev",
    "validatingwebhookconfiguration/validation.inmemorychannel.eventing.knative.dev",
    "validatingwebhookconfiguration/validation.webhook.eventing.knative.dev",
)

_PROBE = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: probe
  namespace: default
  annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}
"""


class EventingEngine:
    """Hands events on to whoever asked for them, by HTTP."""

    name = _NAME
    needs = ("knative",)

    def lacks(self) -> list[str]:
        """Return what this machine is missing, each one line with its remedy."""
        return golang.lacks()

    def build(self) -> None:
        """Build the programs and their image, and keep the manifests of the same release."""
        _built()

    def start(self) -> None:
        """Install it unless it is there; return when all of its parts are ready.

        Raises:
            EngineError: The cluster refused it, or it did not become ready.
        """
        release = _built()
        cluster.bring_up(
            _NAMESPACE, _rendered(release), image=release / "image.tar", webhooks=_WEBHOOKS
        )
        wait_ready("Knative Eventing", _ask, seconds=60)

    def check(self) -> str:
        """Return one line about what answers.

        Raises:
            EngineError: It does not.
        """
        _ask()
        return f"Knative Eventing {_VERSION}, {cluster.ready_pods(_NAMESPACE)} pods ready"

    def stop(self) -> None:
        """End all of it; nothing happens where the cluster does not run.

        The types stay, and so do the Brokers, Triggers and sources of others: they are looked after
        again at the next start. What a Broker held in memory is gone.

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
        """Return nothing: whoever reaches the cluster reaches it."""
        return {}


def engine() -> Engine:
    """Return the engine of this folder."""
    return EventingEngine()


def _built() -> Path:
    """Return the folder with the image and the manifests."""
    sources = (_HERE / name for name in ("go.mod", "go.sum"))
    inputs: list[Path | str] = [*sources, *golang.FLAGS, golang.version()]
    return built("eventing", [*inputs, Path(__file__)], _build)


def _build(folder: Path) -> None:
    released = golang.module(_HERE, "knative.dev/operator") / _RELEASE
    for name in _MANIFESTS:
        shutil.copyfile(released / name, folder / name)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = [f"knative.dev/eventing/cmd/{name}" for name in _PROGRAMS]
        golang.build(_HERE, packages, Path(scratch))
        layer = write_layer(folder / "layer.tar", {"": Path(scratch)}, keep_times=False)
    write_image(folder / "image.tar", tag=_IMAGE, layers=[layer], config=Config())
    layer.archive.unlink()


def _rendered(release: Path) -> str:
    # Kustomize reads no file outside the folder it was given, hence copies.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(_HERE / "kustomization.yaml", folder)
        (folder / "release").mkdir()
        for name in _MANIFESTS:
            shutil.copy(release / name, folder / "release")
        return cluster.rendered(folder)


def _ask() -> None:
    """Ask its admission whether it would take a Broker.

    Raises:
        EngineError: It gives no answer, or not the right one.
    """
    cluster.kubectl("create", "--dry-run=server", "--output=name", "--filename=-", text=_PROBE)
