"""The programs that are built for the cluster."""

from pathlib import Path

from tests.engines.addons import golang
from tests.engines.build_cache import built

VERSION = "v1.34.4"
"""Of k8s.io/kubernetes in go.mod; left alone, every part would call itself v0.0.0."""

_HERE = Path(__file__).parent
_NAMES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)


def kubernetes_program(name: str) -> Path:
    """Return one of Kubernetes' own programs; built at the first call, in minutes.

    Raises:
        EngineError: It could not be built.
    """
    sources = [_HERE / "go.mod", _HERE / "go.sum", _HERE / "main.go"]
    values = {"k8s.io/component-base/version.gitVersion": VERSION}

    def make(folder: Path) -> None:
        golang.build(_HERE, ["."], folder / "kubernetes", values=values)
        for link in _NAMES:
            (folder / link).symlink_to("kubernetes")

    inputs: list[Path | str] = [*sources, VERSION, *_NAMES, *golang.FLAGS, golang.version()]
    return built("kubernetes", inputs, make) / name


def dns_program() -> Path:
    """Return the cluster's name server; built at the first call.

    Raises:
        EngineError: It could not be built.
    """
    source = _HERE / "dns"

    def make(folder: Path) -> None:
        golang.build(source, ["."], folder / "cluster-dns")

    return built("cluster-dns", [source, *golang.FLAGS, golang.version()], make) / "cluster-dns"
