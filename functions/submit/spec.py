"""What the runtime knows of `submit`."""

from functions.submit.handler import Needs
from shared.events.executions import ExecutionRejected, ExecutionRequested, ExecutionSubmit
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="submit",
    consumes=(ExecutionSubmit,),
    emits=(ExecutionRequested, ExecutionRejected),
    needs=Needs,
)
