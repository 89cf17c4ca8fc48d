"""A one-node Kubernetes out of its own programs, with containerd and without any registry."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.engines import doctor, process
from tests.engines.addons import golang
from tests.engines.build_cache import locked
from tests.engines.engine import Engine, EngineError, say
from tests.engines.images import pause
from tests.engines.images.image import CONTAINERD_SOCKET, ctr, import_image, remove_nameless_images
from tests.engines.kubernetes import host, leftovers, network, parts, pod_logs
from tests.engines.kubernetes.api import Api
from tests.engines.kubernetes.certificates import ensure_certificates
from tests.engines.kubernetes.configuration import CNI_PROGRAMS, write_configuration
from tests.engines.kubernetes.programs import dns_program, kubernetes_program
from tests.engines.ports import refuse_taken

_MACHINE_LOCK = Path("/run/lock/integr8s-kubernetes.lock")
"""Checkouts share the machine's only cluster network: one of them at a time starts or stops."""

_PROGRAMS = {
    "conntrack": "apt: conntrack",
    "containerd": "apt: containerd",
    "containerd-shim-runc-v2": "apt: containerd",
    "ctr": "apt: containerd",
    "etcd": "apt: etcd-server",
    "ip": "apt: iproute2",
    "ip6tables": "apt: iptables",
    "iptables": "apt: iptables",
    "mount": "apt: mount",
    "openssl": "apt: openssl",
    "runc": "apt: runc",
}


class KubernetesEngine:
    """API, controllers, scheduler, kubelet, proxy, name server, store and container runtime."""

    name = "kubernetes"
    needs: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Return what this machine is missing, each one line with its remedy."""
        missing = doctor.missing_programs(_PROGRAMS) + golang.lacks() + pause.lacks()
        if not all((CNI_PROGRAMS / plugin).exists() for plugin in ("bridge", "host-local")):
            missing.append(f"{CNI_PROGRAMS}/bridge (apt: containernetworking-plugins)")
        if os.geteuid() != 0:
            missing.append("root (namespaces, control groups, iptables)")
        return missing + _kernel_gaps()

    def build(self) -> None:
        """Build the programs and the image that every pod needs."""
        kubernetes_program("kubelet")
        dns_program()
        pause.pause_archive()

    def start(self) -> None:
        """Start every part that does not run; return when a pod can be created.

        Raises:
            EngineError: A part did not start, or a port belongs to somebody else.
        """
        self.build()
        folder = parts.folder()
        with locked(_MACHINE_LOCK):
            _refuse_another_cluster()
            if not any(map(process.running, parts.PORTS)):
                leftovers.remove_leftovers(folder)
            ensure_certificates(folder / "pki")
            write_configuration(folder)
            host.prepare(folder)
            _start_parts()

    def check(self) -> str:
        """Return one line about the node and what runs on it.

        Raises:
            EngineError: A part does not run, or the node is not ready.
        """
        if dead := [name for name in parts.PORTS if not process.running(name)]:
            raise EngineError(f"not running: {', '.join(dead)}; start {self.name} again")
        api = parts.api()
        if not parts.is_node_ready(api, since=datetime.min.replace(tzinfo=UTC)):
            raise EngineError(f"{network.NODE} is not ready: see {process.log_of('kubelet')}")
        version = api.get("/version")["gitVersion"]
        pods = len(api.get("/api/v1/pods")["items"])
        return f"Kubernetes {version} at {network.API_SERVER}, {network.NODE} ready, {pods} pods"

    def stop(self) -> None:
        """Delete all pods, then end the parts in order and remove what they leave.

        The cluster's objects, its certificates and its images are kept for the next start.

        Raises:
            EngineError: Something could not be ended or removed.
        """
        with locked(_MACHINE_LOCK):
            _stop_parts()
            if leftovers.is_somebody_served():
                say(f"{self.name}: another checkout's cluster runs here, and is left alone")
                return
            leftovers.remove_leftovers(parts.folder())
            if found := leftovers.found(parts.folder()):
                raise EngineError(f"the cluster is stopped, but there is still {'; '.join(found)}")

    def logs(self) -> list[Path]:
        """Return those of its parts; pods have theirs in `pod_logs`."""
        return [process.log_of(name) for name in parts.PORTS]

    def environment(self) -> dict[str, str]:
        """Return where the administrator's kubeconfig is."""
        return {"KUBECONFIG": str(parts.folder() / "kubeconfig")}


def engine() -> Engine:
    """Return the engine of this folder."""
    return KubernetesEngine()


def kubectl() -> Path:
    """Return the path of kubectl, of the same release as the cluster."""
    return kubernetes_program("kubectl")


def _kernel_gaps() -> list[str]:
    gaps = []
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        gaps.append("overlay file systems (modprobe overlay)")
    if not Path("/proc/sys/net/bridge").is_dir():
        gaps.append("packet filters on bridges (modprobe br_netfilter)")
    return gaps


def _start_parts() -> None:
    """Start the parts in the order of their needs, and beside each other where they have none."""
    parts.start_containerd()
    parts.start_etcd()
    parts.start_apiserver()
    parts.wait_for_containerd()
    import_image(pause.pause_archive())
    remove_nameless_images()
    parts.wait_for_apiserver()
    parts.start_controllers()
    parts.start_dns()
    pod_logs.start(parts.folder() / "pod-logs")
    parts.start_kubelet()
    parts.start_proxy()
    parts.wait_for_controllers()
    parts.wait_for_dns()


def _refuse_another_cluster() -> None:
    """Make sure that what the cluster needs for itself on a machine is free, or its own already.

    Raises:
        EngineError: Another checkout's cluster runs, or somebody holds a port.
    """
    for name, ports in parts.PORTS.items():
        if not process.running(name):
            refuse_taken(name, ports)
    if not process.running("containerd") and leftovers.is_somebody_served():
        raise EngineError(
            f"another checkout's cluster answers at {CONTAINERD_SOCKET}: stop it there first"
        )


def _stop_parts() -> None:
    for name in filter(process.running, parts.PORTS):
        process.resume(name)  # a test may have been killed while it had one of them frozen
    # First, because they would make new pods in place of those that are deleted.
    process.stop("kube-controller-manager")
    process.stop("kube-scheduler")
    if all(map(process.running, ("etcd", "kube-apiserver", "containerd"))):
        try:
            _delete_pods(parts.api())
        except EngineError as error:
            reason = str(error).splitlines()[0]  # the rest is the end of a log
            say(f"kubernetes: its pods are ended by force, because {reason}")
    for name in ("kubelet", "kube-proxy", "cluster-dns", "kube-apiserver", "etcd", "containerd"):
        process.stop(name)
    pod_logs.stop()


def _delete_pods(api: Api) -> None:
    """Delete all pods and wait until the kubelet has ended them.

    Raises:
        EngineError: It did not, or there is none; the pods are gone from the API all the same.
    """
    try:
        _ask_pods_to_end(api, grace_seconds=1)
        process.wait_ready(
            "the end of all pods", lambda: not _pods(api), seconds=40, process="kubelet"
        )
        process.wait_ready("the end of all containers", _no_tasks, seconds=20, process="kubelet")
    finally:
        _ask_pods_to_end(api, grace_seconds=0)


def _ask_pods_to_end(api: Api, *, grace_seconds: int) -> None:
    for namespace in {pod["metadata"]["namespace"] for pod in _pods(api)}:
        api.delete(f"/api/v1/namespaces/{namespace}/pods", {"gracePeriodSeconds": grace_seconds})


def _pods(api: Api) -> list[dict[str, Any]]:
    """Return the pods that can go now; those of Jobs wait for a controller, which counts them."""
    items: list[dict[str, Any]] = api.get("/api/v1/pods")["items"]
    return [
        pod
        for pod in items
        if not (pod["metadata"].get("finalizers") and pod["metadata"].get("deletionTimestamp"))
    ]


def _no_tasks() -> bool:
    return not ctr("tasks", "ls", "--quiet").strip()
