"""KEDA in the one-node cluster: operator, metrics adapter and admission of its objects."""

import re
import shutil
import tempfile
from pathlib import Path

from tests.engines import doctor, paths
from tests.engines.addons import cluster, golang
from tests.engines.build_cache import built
from tests.engines.engine import Engine, EngineError
from tests.engines.images.image import Config, write_image, write_layer
from tests.engines.keda.certificates import FILES, ensure_certificates
from tests.engines.kubernetes import pod_logs
from tests.engines.process import wait_ready

_NAME = "keda"
_NAMESPACE = "keda"
_HERE = Path(__file__).parent
_MODULE = "github.com/kedacore/keda/v2"
_VERSION = "2.20.2"  # of the module in go.mod
_IMAGE = f"localhost/keda:{_VERSION}"

_PROGRAMS = {
    "adapter": "keda-adapter",
    "operator": "keda",
    "webhooks": "keda-admission-webhooks",
}
"""The module's programs, and the names under which its manifests start them."""

_API = "v1beta1.external.metrics.k8s.io"
_METRICS = "/apis/external.metrics.k8s.io/v1beta1"


class KedaEngine:
    """Scales Deployments, to zero and back, by what waits for them."""

    name = _NAME
    needs = ("kubernetes",)

    def lacks(self) -> list[str]:
        """Return what this machine is missing, each one line with its remedy."""
        return [*golang.lacks(), *doctor.missing_programs({"openssl": "apt: openssl"})]

    def build(self) -> None:
        """Build the programs and their image, and keep the manifests of the same release."""
        _built()

    def start(self) -> None:
        """Install it unless it is there; return when the API answers with external metrics.

        Raises:
            EngineError: The cluster refused it, or it did not become ready.
        """
        release = _built()
        cluster.bring_up(_NAMESPACE, _rendered(release), image=release / "image.tar")
        wait_ready("the metrics of KEDA", _metrics, seconds=60)

    def check(self) -> str:
        """Return one line about what answers.

        Raises:
            EngineError: A part is not ready.
        """
        _metrics()
        return (
            f"KEDA {_running_version()}, {cluster.ready_pods(_NAMESPACE)} pods ready, "
            "external metrics answer"
        )

    def stop(self) -> None:
        """End all of it; nothing happens where the cluster does not run.

        The types stay, and so do the objects of others: they are looked after again at the next
        start. One that is deleted meanwhile waits for that.

        Raises:
            EngineError: Something of it is still there.
        """
        if not cluster.is_up():
            return
        # First what the API asks: with nobody there to answer, every namespace that is being
        # deleted waits for the metrics, and every change of a ScaledObject for a refusal.
        first = [f"apiservice/{_API}", "validatingwebhookconfiguration/keda-admission"]
        cluster.uninstall(_NAMESPACE, first)

    def logs(self) -> list[Path]:
        """Return those of its pods."""
        return pod_logs.logs_in(_NAMESPACE)

    def environment(self) -> dict[str, str]:
        """Return nothing: whoever reaches the cluster reaches KEDA."""
        return {}


def engine() -> Engine:
    """Return the engine of this folder."""
    return KedaEngine()


# ------------------------------------------------------------------------------------------- build


def _built() -> Path:
    """Return the folder with the image and, in ``config``, the module's manifests."""
    sources = (_HERE / name for name in ("go.mod", "go.sum", "main.go"))
    inputs: list[Path | str] = [*sources, *golang.FLAGS, golang.version()]
    return built("keda", [*inputs, Path(__file__)], _build)


def _build(folder: Path) -> None:
    module = golang.module(_HERE, _MODULE)
    shutil.copytree(module / "config", folder / "config", copy_function=shutil.copyfile)
    for path in (folder / "config", *(folder / "config").rglob("*/")):
        path.chmod(0o755)  # what Go unpacks is protected, and so would be every copy of it
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        binary = _build_program(module, Path(scratch))
        _write_image(binary, folder / "image.tar")


def _build_program(module: Path, scratch: Path) -> Path:
    """Build all programs as one, see main.go."""
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy(_HERE / name, scratch)
    for program in _PROGRAMS:
        source = (module / "cmd" / program / "main.go").read_text()
        source = re.sub(r"^package main$", f"package {program}", source, flags=re.MULTILINE)
        source = re.sub(r"^func main\(\)", "func Main()", source, flags=re.MULTILINE)
        (scratch / program).mkdir()
        (scratch / program / "main.go").write_text(source)
    binary = scratch / "keda.program"
    golang.build(scratch, ["."], binary, values={f"{_MODULE}/version.Version": _VERSION})
    return binary


def _write_image(binary: Path, archive: Path) -> None:
    content: dict[str, Path | None] = {"programs/keda": binary, "tmp": None}
    for name in _PROGRAMS.values():
        link = binary.parent / f"link-{name}"
        link.symlink_to("programs/keda")
        content[name] = link
    layer = write_layer(archive.with_name("layer.tar"), content, keep_times=False)
    write_image(archive, tag=_IMAGE, layers=[layer], config=Config())
    layer.archive.unlink()


# ----------------------------------------------------------------------------------------- cluster


def _rendered(release: Path) -> str:
    folder = paths.STATE / _NAME
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ensure_certificates(folder)
    # Kustomize reads no file outside the folder it was given, hence copies.
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(_HERE / "kustomization.yaml", scratch)
        shutil.copytree(release / "config", Path(scratch) / "release")
        for name in FILES:
            shutil.copy(folder / name, scratch)
        return cluster.rendered(Path(scratch))


def _metrics() -> None:
    """Ask the adapter, by way of the API.

    Raises:
        EngineError: It gives no answer.
    """
    cluster.kubectl("get", f"--raw={_METRICS}", "--request-timeout=5s")


def _running_version() -> str:
    """Return what the operator says it is."""
    page = f"/api/v1/namespaces/{_NAMESPACE}/services/keda-operator:metrics/proxy/metrics"
    told = re.search(
        r'keda_build_info{[^}]*version="([^"]+)"', cluster.kubectl("get", "--raw", page)
    )
    if told is None:
        raise EngineError("the operator of KEDA does not say which release it is")
    return told[1]
