"""Pods as an API server shows them; the statuses were seen on a real one."""

from typing import Any

from shared.adapters.kubernetes import objects

MARK = "0123456789abcdef"
CREATED = "2026-11-21T06:00:00Z"
STARTED = "2026-11-21T06:00:02Z"
FINISHED = "2026-11-21T06:00:09Z"
FIELDS = {
    "cause": "none",
    "started": 1,
    "error": 0,
    "status": 0,
    "started_at_ns": 1795240802_000000000,
    "wall_ns": 5_000_000_000,
    "source": "cgroup",
    "cpu_ns": 1_500_000_000,
    "peak_kb": 4096,
    "memory_kills": 0,
    "refused_forks": 0,
    "tasks": 0,
    "stdout_total": 0,
    "stdout_kept": 0,
    "stderr_total": 0,
    "stderr_kept": 0,
    "chunks": 0,
}

RUNNING = {"running": {"startedAt": STARTED}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}


def waiting(reason: str, message: str = "why") -> dict[str, Any]:
    """Return the state of a container that does not run yet."""
    return {"waiting": {"reason": reason, "message": message}}


def terminated(
    reason: str = "Completed", *, code: int = 0, message: str = "", started: str = STARTED
) -> dict[str, Any]:
    """Return the state of a container that is over."""
    state = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": FINISHED}
    return {"terminated": {**state, **({"message": message} if message else {})}}


def report(**changed: Any) -> str:
    """Return a report of process 1, an exit with 0 unless told otherwise."""
    words = [f"{name}={value}" for name, value in {**FIELDS, **changed}.items()]
    return " ".join([MARK, *words, "end"])


OVER = terminated(message=report())


def manifest(
    state: dict[str, Any] | None = None,
    *,
    name: str = "exec-1",
    phase: str = "Pending",
    node: str | None = "node1",
    order: str = "",
    deleted: bool = False,
    condition: tuple[str, str, str] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """Return a pod."""
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "creationTimestamp": CREATED,
        "labels": {**objects.LABELS, "execution-id": name.removeprefix("exec-")},
        "annotations": {
            objects.LIMITS: "timeout_ms=400 memory_bytes=65536 processes=64"
            " output_drained_bytes=1000"
        },
    }
    if order:
        metadata["annotations"][objects.ORDER] = order
    if deleted:
        metadata["deletionTimestamp"] = FINISHED
    spec: dict[str, Any] = {
        "activeDeadlineSeconds": 360,
        "containers": [{"name": "script", "env": [{"name": objects.MARK, "value": MARK}]}],
    }
    if node is not None:
        spec["nodeName"] = node
    found: dict[str, Any] = {"phase": phase, **status}
    if state is not None:
        found["containerStatuses"] = [{"name": "script", "state": state}]
    if condition is not None:
        kind, value, reason = condition
        found["conditions"] = [{"type": kind, "status": value, "reason": reason}]
    return {"metadata": metadata, "spec": spec, "status": found}
