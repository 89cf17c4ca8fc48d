"""What the runtime knows of `monitor-pods`."""

from datetime import timedelta

from functions.monitor_pods.handler import Needs
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionOutput,
    ExecutionStarted,
    ExecutionTimeout,
)
from shared.events.pods import PodCreated, PodRunning, PodScheduled, PodTerminated
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="monitor-pods",
    wakes="cluster",
    emits=(
        PodCreated,
        PodScheduled,
        PodRunning,
        ExecutionStarted,
        ExecutionOutput,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionTimeout,
        ExecutionCancelled,
        PodTerminated,
    ),
    needs=Needs,
    reconcile_every=timedelta(seconds=300),
)
