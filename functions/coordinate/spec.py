"""What the runtime knows of `coordinate`."""

from datetime import timedelta

from functions.coordinate.handler import Needs
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCancelRequested,
    ExecutionQueued,
    ExecutionRejected,
    ExecutionRequested,
    ExecutionScheduled,
)
from shared.events.results import ResultStored
from shared.events.timers import TimerDue
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="coordinate",
    consumes=(ExecutionRequested, ExecutionCancelRequested, ResultStored, TimerDue),
    emits=(ExecutionQueued, ExecutionScheduled, ExecutionRejected, ExecutionCancelled),
    needs=Needs,
    reconcile_every=timedelta(seconds=60),
)
