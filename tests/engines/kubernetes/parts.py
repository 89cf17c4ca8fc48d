"""The processes of the cluster: how each is started and how it says that it is ready."""

import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.engines import doctor, paths, process
from tests.engines.engine import EngineError
from tests.engines.images.image import ctr
from tests.engines.kubernetes import host, network
from tests.engines.kubernetes.api import Api
from tests.engines.kubernetes.configuration import RUN
from tests.engines.kubernetes.programs import dns_program, kubernetes_program

PORTS = {
    "etcd": (2379, 2380),
    "containerd": (),
    "kube-apiserver": (6443,),
    "kube-controller-manager": (10257,),
    "kube-scheduler": (10259,),
    "cluster-dns": (8181,),  # not 53: on an address of our own, that of others is no obstacle
    "kubelet": (10250, 10248),
    "kube-proxy": (10249, 10256),
}
"""Name of each process, as its record and its log have it -> the ports it listens on."""

_ETCD = "http://127.0.0.1:2379"


def folder() -> Path:
    """Return where the cluster keeps everything."""
    return paths.STATE / "kubernetes"


def api() -> Api:
    """Return the cluster's API; its certificates must have been made."""
    return Api(folder() / "pki")


def start_etcd() -> None:
    """Start the store and wait for it."""
    _start(
        "etcd",
        doctor.program("etcd") or "etcd",
        f"--data-dir={folder() / 'etcd'}",
        # A test cluster is not worth the disk's time; only a crash of the machine can lose it.
        "--unsafe-no-fsync",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--logger=zap",
        "--log-level=warn",
    )
    _wait("etcd", _answers(f"{_ETCD}/health"))


def start_containerd() -> None:
    """Start the container runtime, without waiting."""
    RUN.mkdir(parents=True, exist_ok=True)
    config = folder() / "config" / "containerd.toml"
    _start("containerd", doctor.program("containerd") or "containerd", f"--config={config}")


def wait_for_containerd() -> None:
    """Wait until the container runtime answers."""
    _wait("containerd", lambda: ctr("version"))


def start_apiserver() -> None:
    """Start the API, without waiting: it takes seconds, in which others can start."""
    pki = folder() / "pki"
    _start(
        "kube-apiserver",
        kubernetes_program("kube-apiserver"),
        f"--etcd-servers={_ETCD}",
        # Only where pods and this machine reach it: nobody on a shared network does.
        f"--bind-address={network.ADDRESS}",
        f"--advertise-address={network.ADDRESS}",
        "--secure-port=6443",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={network.SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'admin.crt'}",
        f"--kubelet-client-key={pki / 'admin.key'}",
        # How APIs beside this one, such as KEDA's metrics, know that a request was checked here.
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front.crt'}",
        f"--proxy-client-key-file={pki / 'front.key'}",
        f"--audit-policy-file={folder() / 'config' / 'audit.yaml'}",
        f"--audit-log-path={paths.STATE / 'log' / 'audit.log'}",
    )


def wait_for_apiserver() -> None:
    """Wait until the API takes requests."""
    cluster = api()
    _wait("kube-apiserver", lambda: cluster.text("/readyz"))


def start_controllers() -> None:
    """Start what turns wishes into objects and gives pods a node, without waiting."""
    pki = folder() / "pki"
    _start(
        "kube-controller-manager",
        kubernetes_program("kube-controller-manager"),
        "--bind-address=127.0.0.1",
        f"--kubeconfig={folder() / 'kubeconfig'}",
        "--leader-elect=false",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        # Tests wait for the autoscaler: by default it looks every 15 s and shrinks after 5 min.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-downscale-stabilization=10s",
    )
    _start(
        "kube-scheduler",
        kubernetes_program("kube-scheduler"),
        "--bind-address=127.0.0.1",
        f"--kubeconfig={folder() / 'kubeconfig'}",
        "--leader-elect=false",
    )


def wait_for_controllers() -> None:
    """Wait until a pod could be created: without this account it would be refused."""
    cluster = api()
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait("kube-controller-manager", lambda: cluster.get(account))


def start_dns() -> None:
    """Start the name server, without waiting."""
    _start("cluster-dns", dns_program(), f"-conf={folder() / 'config' / 'Corefile'}")


def wait_for_dns() -> None:
    """Wait until names can be asked for."""
    _wait("cluster-dns", _answers("http://127.0.0.1:8181/ready"))


def start_kubelet() -> None:
    """Start what runs the pods, and wait until the node takes some."""
    # What the kept cluster says of the node may be from its last life.
    was_running = process.running("kubelet") is not None
    begun = datetime.now(tz=UTC).replace(microsecond=0)  # noqa: TID251 - compared with the node's
    _start(
        "kubelet",
        kubernetes_program("kubelet"),
        f"--config={folder() / 'config' / 'kubelet.yaml'}",
        f"--kubeconfig={folder() / 'config' / 'kubelet.kubeconfig'}",
        f"--root-dir={folder() / 'kubelet'}",
        f"--cgroup-root=/{host.CGROUP}",
        f"--hostname-override={network.NODE}",
        f"--node-ip={network.ADDRESS}",
    )
    cluster = api()
    since = datetime.min.replace(tzinfo=UTC) if was_running else begun
    _wait("kubelet", lambda: is_node_ready(cluster, since=since))


def is_node_ready(cluster: Api, *, since: datetime) -> bool:
    """Return whether the node takes pods, as it said itself at this time or later."""
    node = cluster.get(f"/api/v1/nodes/{network.NODE}")
    conditions: list[dict[str, Any]] = node["status"].get("conditions", [])
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since
        for condition in conditions
    )


def start_proxy() -> None:
    """Start what makes services reachable, and wait for its first rules; the node must exist."""
    config = folder() / "config" / "kube-proxy.yaml"
    _start("kube-proxy", kubernetes_program("kube-proxy"), f"--config={config}")
    _wait("kube-proxy", _answers("http://127.0.0.1:10256/healthz"))


def _start(name: str, program: str | Path, *options: str) -> None:
    if process.running(name):
        return
    # Nothing else of ours: a proxy for the web, above all, is not meant for the parts' own talk.
    environment = {"PATH": doctor.search_path(), "HOME": str(folder())}
    process.start(name, [str(program), *options], env=environment, cwd=folder())


def _wait(name: str, probe: Callable[[], object]) -> None:
    process.wait_ready(name, probe, seconds=60, process=name)


def _answers(url: str) -> Callable[[], object]:
    """Return a probe that is content with an answer of status 200."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def probe() -> None:
        with direct.open(url, timeout=2) as answer:
            if answer.status != 200:
                raise EngineError(f"{url} answered {answer.status}")

    return probe
