"""What the runtime knows of `saga-step`."""

from datetime import timedelta

from functions.saga_step.handler import Needs
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionRejected,
    ExecutionRequested,
    ExecutionStarted,
    ExecutionTimeout,
)
from shared.events.pods import PodCreate, PodCreated, PodDelete, PodDeleted
from shared.events.results import ResultStored
from shared.events.sagas import (
    SagaCancelled,
    SagaCompensating,
    SagaCompleted,
    SagaFailed,
    SagaStarted,
    SagaStepCompleted,
)
from shared.events.system import SystemAlert
from shared.ports.functions import FunctionSpec

SPEC = FunctionSpec(
    slug="saga-step",
    consumes=(
        ExecutionRequested,
        ExecutionQueued,
        ExecutionRejected,
        ExecutionStarted,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionTimeout,
        ExecutionCancelRequested,
        ExecutionCancelled,
        PodCreated,
        PodDeleted,
        ResultStored,
    ),
    emits=(
        SagaStarted,
        SagaStepCompleted,
        SagaCompensating,
        SagaCompleted,
        SagaFailed,
        SagaCancelled,
        PodCreate,
        PodDelete,
        ExecutionFailed,
        ExecutionTimeout,
        ExecutionCancelled,
        SystemAlert,
    ),
    needs=Needs,
    linger=timedelta(milliseconds=300),
    urgent=(ExecutionCancelRequested,),
    joins_topics=True,
    reconcile_every=timedelta(seconds=1),
)
