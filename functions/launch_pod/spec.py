"""What the runtime knows of `launch-pod`."""

from datetime import timedelta

from functions.launch_pod.handler import Needs
from shared.events.executions import ExecutionCancelled, ExecutionFailed, ExecutionScheduled
from shared.events.pods import PodCreate, PodDelete, PodDeleted
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="launch-pod",
    consumes=(ExecutionScheduled, PodCreate, PodDelete),
    emits=(PodDeleted, ExecutionFailed, ExecutionCancelled),
    needs=Needs,
    time_limit=timedelta(seconds=60),
    concurrency=10,
    starts_scripts=True,
)
