"""Make exactly one pod per execution, and remove it when told."""

from datetime import timedelta
from typing import NamedTuple

from functions.launch_pod import rules
from shared.domain.errors import PermanentError
from shared.domain.executions import ErrorType, Status
from shared.domain.identifiers import pod_name_of
from shared.events.event import Event, Payload
from shared.events.executions import ExecutionCancelled, ExecutionFailed, ExecutionScheduled
from shared.events.origins import of_execution
from shared.events.pods import PodCreate, PodDelete, PodDeleted
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.documents import Document, Documents
from shared.ports.publisher import Publisher

SOURCE = "/integr8s/launch-pod"


class Needs(NamedTuple):
    """The ports of this function."""

    executions: Documents
    cluster: Cluster
    publisher: Publisher
    clock: Clock


async def handle(event: Event, needs: Needs) -> None:
    """Launch what was scheduled, remove what is over; both as often as they are delivered."""
    match event.data:
        case ExecutionScheduled() | PodCreate():
            execution = await _claim(event, needs)
            if execution is not None:
                await _launch(execution, event, needs)
        case PodDelete():
            await _delete(event, event.data, needs)
        case _:
            pass


async def _claim(event: Event, needs: Needs) -> Document | None:
    """Move the execution to `launching`, or take up a launch that a crash cut off.

    The transition records its cause. A redelivery of that cause finds its own mark and goes on;
    any other event finds somebody else's, or a state past it, and is done.
    """
    execution_id = event.subject
    relaunch = isinstance(event.data, PodCreate)
    may_claim = [Status.SCHEDULED.value] + ([Status.LAUNCHING.value] if relaunch else [])
    now = needs.clock.now()
    claimed = await needs.executions.change(
        execution_id,
        when={"status": {"$in": may_claim}, "pod_name": None, "cancel_requested_at": None},
        set={
            "status": Status.LAUNCHING.value,
            "launching_at": now,
            "launch_cause": event.id,
            "updated_at": now,
        },
    )
    if claimed is not None:
        return claimed
    execution = await needs.executions.get(execution_id)
    if execution is None:
        return None
    if execution.get("cancel_requested_at"):
        # In `launching` a crash may have left a pod, which the saga ends and the monitor reports.
        if execution["status"] in may_claim:
            await _say_cancelled(execution, event, needs)
        return None
    if execution.get("launch_cause") != event.id:
        return None
    unfinished = execution["status"] in (Status.LAUNCHING, Status.RUNNING)
    return execution if unfinished and not execution.get("pod_name") else None


async def _launch(execution: Document, event: Event, needs: Needs) -> None:
    try:
        await needs.cluster.create(rules.pod_spec(execution))
    except PermanentError as error:
        await _say_failed(execution, event, str(error), needs)
        return
    # That the pod exists is the monitor's to say: facts about a pod come from one mouth, in order.
    await needs.executions.change(
        execution["execution_id"],
        when={"pod_name": None},
        set={
            "pod_name": pod_name_of(execution["execution_id"]),
            "updated_at": needs.clock.now(),
        },
    )


async def _say_failed(execution: Document, event: Event, reason: str, needs: Needs) -> None:
    failed = ExecutionFailed(
        execution_id=execution["execution_id"],
        user_id=execution["user_id"],
        error_type=ErrorType.SYSTEM_ERROR.value,
        error_code="cannot_launch",
        error_message=f"It could not be launched: {reason}"[:500],
        phase="launch",
        finished_at=needs.clock.now(),
    )
    await _say(execution, failed, event, needs)


async def _say_cancelled(execution: Document, event: Event, needs: Needs) -> None:
    """Say that a cancel came before any pod: only the launcher knows that none will be made."""
    cancelled = ExecutionCancelled(
        execution_id=execution["execution_id"],
        user_id=execution["user_id"],
        cancelled_by=execution.get("cancelled_by") or execution["user_id"],
        reason=execution.get("cancel_reason"),
        phase="launch",
        finished_at=needs.clock.now(),
    )
    await _say(execution, cancelled, event, needs)


async def _say(execution: Document, data: Payload, event: Event, needs: Needs) -> None:
    said = of_execution(execution, data, source=SOURCE, at=needs.clock.now(), causation_id=event.id)
    await needs.publisher.publish([said])


async def _delete(event: Event, order: PodDelete, needs: Needs) -> None:
    """Remove the pod; a cancelled run is ended and reported first, and removed by a later order."""
    ends_early = order.reason in ("cancelled", "deadline")
    await needs.cluster.delete(
        order.pod_name,
        grace=timedelta(seconds=order.grace_seconds),
        cancel=ends_early,
    )
    if ends_early:
        return
    deleted = PodDeleted(
        execution_id=order.execution_id,
        user_id=order.user_id,
        pod_name=order.pod_name,
        reason=order.reason,
    )
    await needs.publisher.publish([event.then(deleted, source=SOURCE, at=needs.clock.now())])
