"""What a running installation suffers: functions and engines die, or stand still."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from shared.runtime.evidence import Fault
from tests.engines import process
from tests.engines.engine import Engine
from tests.engines.images.image import CONTAINERD_SOCKET
from tests.ledger import now, pause

_PREFIX = "containerd://"


@dataclass(frozen=True, slots=True)
class FunctionProcess:
    """Process 1 of a function's container."""

    slug: str
    pod: str
    pid: int

    def kill(self) -> bool:
        """End it as a crash does; say whether it was still there."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def function_processes(api: client.CoreV1Api, namespace: str) -> list[FunctionProcess]:
    """Return every running process of a function, the gateway included."""
    pids = _pids_by_container()
    pods: list[Any] = api.list_namespaced_pod(
        namespace, label_selector="app=integr8s,component!=executor"
    ).items
    return [
        FunctionProcess(pod.metadata.labels["component"], pod.metadata.name, pids[name])
        for pod in pods
        for name in _containers(pod)
        if name in pids
    ]


def _containers(pod: Any) -> Iterator[str]:
    """Yield the ids of our own containers of a pod; a sidecar of Knative is none of ours."""
    for status in pod.status.container_statuses or ():
        if status.name != "queue-proxy" and status.container_id:
            yield status.container_id.removeprefix(_PREFIX)


def _pids_by_container() -> dict[str, int]:
    command = ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", "task", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    rows = (line.split() for line in told.splitlines()[1:])
    return {row[0]: int(row[1]) for row in rows if len(row) > 2 and row[2] == "RUNNING"}


async def paused(engine_process: str, seconds: float) -> Fault:
    """Let an engine stand still for a while, as an overloaded machine does."""
    begun = now()
    process.pause(engine_process)
    try:
        await pause(seconds)
    finally:
        process.resume(engine_process)
    return Fault(f"{engine_process} stood still", begun, now())


async def killed(engine: Engine, engine_process: str) -> Fault:
    """Kill an engine and start it again on what it left."""
    begun = now()
    process.kill(engine_process)
    await asyncio.to_thread(engine.start)
    return Fault(f"{engine_process} was killed", begun, now())


async def restarted(engine: Engine) -> Fault:
    """Stop an engine in order, for those that keep nothing otherwise, and start it again."""
    begun = now()
    await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(engine.start)
    return Fault(f"{engine.name} was restarted", begun, now())
