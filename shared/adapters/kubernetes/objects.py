"""The two objects of one execution: its inputs in a ConfigMap, and the pod that runs them."""

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from shared.adapters.kubernetes import job
from shared.adapters.kubernetes.job import Job
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.domain.errors import PermanentError
from shared.ports.cluster import Limits, PodSpec

CONTAINER: Final = "script"
LABELS: Final = {"app": "integr8s", "component": "executor"}
CANARY_LABEL: Final = "integr8s.io/canary"
SELECTOR: Final = f"app=integr8s,component=executor,!{CANARY_LABEL}"
FINALIZER: Final = "integr8s.io/output"
"""Keeps the object, whoever deletes the pod, until its clean-up is ordered."""
ORDER: Final = "integr8s.io/order"
"""Annotation that process 1 reads: `cancel` or `remove`, and a grace in milliseconds."""
LIMITS: Final = "integr8s.io/limits"
"""Annotation with the limits that no other field of the pod tells."""
USER: Final = "integr8s.io/user-id"
MARK: Final = "INTEGR8S_MARK"
"""Variable of process 1 alone, by which its report is told from what the script left there."""

_MOST_BYTES: Final = 1024 * 1024
"""Of keys and contents of a ConfigMap together; the API server refuses more."""
_UID: Final = 1000
_UIDS: Final = 1 << 24
_TIME_TO_START: Final = timedelta(seconds=300)
_SLACK: Final = timedelta(seconds=30)
_DISK_BYTES: Final = 64 * 1024 * 1024
_DISK_REQUEST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inputs:
    """The bytes that a pod finds: ours under `/entry`, the user's under `/scripts`."""

    job: bytes
    program: bytes
    """Process 1."""
    call_filter: bytes
    stdin: bytes | None = None
    scripts: tuple[tuple[str, bytes], ...] = ()


def inputs_of(spec: PodSpec, work: Job, *, program: bytes, call_filter: bytes) -> Inputs:
    """Return the inputs of a spec.

    Raises:
        PermanentError: They are more than a ConfigMap holds, or no words.
    """
    inputs = Inputs(
        job=job.encoded(work),
        program=program,
        call_filter=call_filter,
        stdin=spec.stdin,
        scripts=((spec.runtime.filename, spec.script), *spec.files),
    )
    size = sum(len(key) + len(data) for key, (_, _, data) in _keys(inputs).items())
    if size > _MOST_BYTES:
        raise PermanentError(
            f"Script, input and files take {size} bytes with what runs them, of {_MOST_BYTES}."
        )
    return inputs


def config_map(spec: PodSpec, inputs: Inputs) -> dict[str, Any]:
    """Return the object that holds the inputs. Nothing in it changes between two tries."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": spec.name, "labels": _labels(spec)},
        "immutable": True,  # saves the kubelet a watch on each
        "binaryData": {
            key: base64.b64encode(data).decode() for key, (_, _, data) in _keys(inputs).items()
        },
    }


def pod(spec: PodSpec, inputs: Inputs, options: KubernetesOptions, mark: str) -> dict[str, Any]:
    """Return the pod; it passes the Pod Security profile `restricted`."""
    limits = spec.limits
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name,
            "labels": _labels(spec),
            "annotations": {USER: spec.user_id, LIMITS: _told_limits(spec)},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": math.ceil(
                (_TIME_TO_START + spec.timeout + _SLACK).total_seconds()
            ),
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostNetwork": False,
            "hostPID": False,
            "hostIPC": False,
            "hostname": "sandbox",
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "securityContext": _security(uid_of(spec.name, options)),
            "containers": [_container(spec, mark)],
            "volumes": [
                _inputs_volume(spec.name, inputs),
                _orders_volume(),
                _scratch_volume("tmp", limits.tmp_bytes),
                _scratch_volume("output", job.SCRATCH_BYTES),
                _scratch_volume("shm", job.SCRATCH_BYTES),
            ],
            **_chosen(options),
        },
    }


def owner(name: str, uid: str) -> dict[str, str]:
    """Return the reference by which the inputs go with their pod."""
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}


def as_canary(made: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a canary: subject to the same policy, and followed by no watch."""
    metadata = dict(made["metadata"])
    metadata.pop("finalizers", None)
    metadata["labels"] = {**metadata["labels"], CANARY_LABEL: "true"}
    return {**made, "metadata": metadata}


def uid_of(name: str, options: KubernetesOptions) -> int:
    """Return whom a pod's script runs as: 1000, or a number that follows from its name."""
    if options.first_uid is None:
        return _UID
    digest = hashlib.sha256(name.encode()).digest()
    return options.first_uid + int.from_bytes(digest[:4], "big") % _UIDS


def mark_of(found: Mapping[str, Any]) -> str:
    """Return the mark that a pod's process 1 was given; empty where there is none."""
    for container in found["spec"]["containers"]:
        for variable in container.get("env", ()):
            if variable["name"] == MARK:
                return str(variable.get("value", ""))
    return ""


def limits_of(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits that a pod's annotation tells; none where it is missing or changed."""
    text = found["metadata"].get("annotations", {}).get(LIMITS, "")
    told = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if value.isdecimal():
            told[name] = int(value)
    return told


def _told_limits(spec: PodSpec) -> str:
    limits = spec.limits
    told = {
        "timeout_ms": round(spec.timeout.total_seconds() * 1000),
        "memory_bytes": limits.memory_bytes,
        "processes": limits.processes,
        "output_drained_bytes": limits.output_drained_bytes,
        "output_kept_bytes": limits.output_kept_bytes,
    }
    return " ".join(f"{name}={value}" for name, value in told.items())


def _keys(inputs: Inputs) -> dict[str, tuple[str, int, bytes]]:
    """Return key -> (path in the volume, mode, content); a key may hold less than a name may."""
    keys = {
        "init": ("entry/init", 0o555, inputs.program),
        "job": ("entry/job", 0o444, inputs.job),
        "filter": ("entry/filter", 0o444, inputs.call_filter),
    }
    if inputs.stdin is not None:
        keys["stdin"] = ("entry/stdin", 0o444, inputs.stdin)
    for number, (name, data) in enumerate(inputs.scripts):
        keys[f"file-{number}"] = (f"scripts/{name}", 0o444, data)
    return keys


def _labels(spec: PodSpec) -> dict[str, str]:
    return {
        **LABELS,
        "execution-id": spec.execution_id,
        "saga-id": spec.saga_id,
        "language": spec.runtime.language,
    }


def _security(uid: int) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "fsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(spec: PodSpec, mark: str) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": spec.runtime.image,
        "imagePullPolicy": "IfNotPresent",
        # Words of the user are no part of it: the kubelet would expand `$(NAME)` in them.
        "command": [job.INIT, "do", job.JOB],
        "workingDir": "/",
        "env": [{"name": MARK, "value": mark}],
        "stdin": False,
        "tty": False,
        "resources": _resources(spec.limits),
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": job.REPORT,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            # By their folder in the volume: the volume itself is a tree of links.
            _mount("inputs", job.ENTRY, subPath="entry", readOnly=True),
            _mount("inputs", job.SCRIPTS, subPath="scripts", readOnly=True),
            _mount("orders", job.ORDERS, readOnly=True),
            _mount("tmp", "/tmp"),  # noqa: S108 - a path inside the pod
            _mount("output", "/output"),
            _mount("shm", "/dev/shm"),  # noqa: S108
        ],
    }


def _resources(limits: Limits) -> dict[str, Any]:
    cpu = min(limits.cpu_request_millicores, limits.cpu_millicores)
    memory = min(limits.memory_request_bytes, limits.memory_bytes)
    return {
        "requests": {
            "cpu": f"{cpu}m",
            "memory": str(memory),
            "ephemeral-storage": str(_DISK_REQUEST_BYTES),
        },
        "limits": {
            "cpu": f"{limits.cpu_millicores}m",
            "memory": str(limits.memory_bytes),
            "ephemeral-storage": str(_DISK_BYTES),
        },
    }


def _mount(volume: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": volume, "mountPath": path, **more}


def _inputs_volume(name: str, inputs: Inputs) -> dict[str, Any]:
    items = [
        {"key": key, "path": path, "mode": mode} for key, (path, mode, _) in _keys(inputs).items()
    ]
    return {"name": "inputs", "configMap": {"name": name, "defaultMode": 0o444, "items": items}}


def _orders_volume() -> dict[str, Any]:
    path = job.ORDER.removeprefix(f"{job.ORDERS}/")
    field = {"fieldPath": f"metadata.annotations['{ORDER}']"}
    return {"name": "orders", "downwardAPI": {"items": [{"path": path, "fieldRef": field}]}}


def _scratch_volume(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}


def _chosen(options: KubernetesOptions) -> dict[str, Any]:
    chosen = {
        "runtimeClassName": options.runtime_class,
        "priorityClassName": options.priority_class,
        "hostUsers": options.host_users,
    }
    return {name: value for name, value in chosen.items() if value is not None}
