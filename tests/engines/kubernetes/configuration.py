"""All files that the parts of the cluster are started with."""

import shutil
from pathlib import Path
from string import Template

from tests.engines.images.image import CONTAINERD_SOCKET
from tests.engines.images.pause import PAUSE
from tests.engines.kubernetes import network
from tests.engines.kubernetes.certificates import encoded

RUN = CONTAINERD_SOCKET.parent
"""What containerd keeps while it runs: sockets, mounts, network namespaces."""

CNI_PROGRAMS = Path("/usr/lib/cni")

_TEMPLATES = Path(__file__).parent / "templates"


def write_configuration(folder: Path) -> None:
    """Bring them up to date below the engine's folder, where its certificates must be already."""
    config = folder / "config"
    (config / "cni").mkdir(parents=True, exist_ok=True)
    values = {
        "address": network.ADDRESS,
        "bridge": network.BRIDGE,
        "cni_programs": str(CNI_PROGRAMS),
        "domain": network.DOMAIN,
        "folder": str(folder),
        "node": network.NODE,
        "pause": PAUSE,
        "pod_network": network.POD_NETWORK,
        "run": str(RUN),
        "runc": shutil.which("runc") or "runc",
    }
    for name in ("containerd.toml", "kubelet.yaml", "kube-proxy.yaml", "audit.yaml", "Corefile"):
        _write(config / name, _filled(name, values))
    _write(config / "cni" / "10-pods.conflist", _filled("cni.conflist", values))
    # The kubelet hands this to pods that want the machine's name servers; they get the cluster's,
    # so that the names this machine knows do not reach into the tests.
    _write(config / "resolv.conf", f"nameserver {network.ADDRESS}\n")
    _write_kubeconfig(folder, user="admin", path=folder / "kubeconfig")
    _write_kubeconfig(folder, user="kubelet", path=config / "kubelet.kubeconfig")


def _write_kubeconfig(folder: Path, *, user: str, path: Path) -> None:
    pki = folder / "pki"
    values = {
        "user": user,
        "server": network.API_SERVER,
        "ca": encoded(pki / "ca.crt"),
        "certificate": encoded(pki / f"{user}.crt"),
        "key": encoded(pki / f"{user}.key"),
    }
    path.touch(mode=0o600)
    _write(path, _filled("kubeconfig.yaml", values))


def _write(path: Path, text: str) -> None:
    # Not if it is the same: kube-proxy watches its file and ends itself whenever it is written.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _filled(name: str, values: dict[str, str]) -> str:
    return Template((_TEMPLATES / name).read_text()).substitute(values)
