"""What the runtime knows of `persist-result`."""

from functions.persist_result.handler import Needs
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimeout,
)
from shared.events.results import ResultStored
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="persist-result",
    consumes=(
        ExecutionStarted,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionTimeout,
        ExecutionCancelled,
        ExecutionRejected,
    ),
    emits=(ResultStored,),
    needs=Needs,
)
