"""Guard an execution: note what happened, notice what did not, undo what was done."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from functions.saga_step import rules
from shared.domain.errors import AlreadyExists
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import ErrorType
from shared.domain.identifiers import pod_name_of, saga_id_of
from shared.events.event import Event, Payload
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
from shared.events.origins import of_execution, order_of
from shared.events.pods import DeleteReason, PodCreate, PodCreated, PodDelete, PodDeleted
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
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.remembered import Remembered

SOURCE = "/integr8s/saga-step"
_CHANGING = (
    "state",
    "facts",
    "context",
    "compensated_steps",
    "completed_steps",
    "current_step",
    "steps",
    "error_message",
    "updated_at",
    "completed_at",
    "retry_count",
)
_REMEMBERED = 2_000
_PAGE = 100
_GRACE = {"finished": 0.0, "cancelled": 2.0, "deadline": 2.0, "failed": 0.0, "orphan": 30.0}


class Known(Remembered):
    """Sagas as this replica last wrote them, each for the next fact about it."""

    def __init__(self) -> None:
        """Know of none."""
        super().__init__(_REMEMBERED)

    def keep(self, saga: Document) -> None:
        """Remember a saga that is not over."""
        if saga["completed_at"] is None:
            self.remember(saga["saga_id"], saga)


class Needs(NamedTuple):
    """The ports of this function, and what one replica remembers."""

    sagas: Documents
    executions: Documents
    clock: Clock
    settings: ExecutionSettings
    known: Known


async def handle(event: Event, needs: Needs) -> None:
    """Join one more fact to the saga of its execution."""
    await handle_batch([event], needs)


async def handle_batch(events: Sequence[Event], needs: Needs) -> None:
    """Join facts about one execution that came close together, in one write."""
    request = next((event for event in events if isinstance(event.data, ExecutionRequested)), None)
    while events:
        saga = await _saga_of(events[0].subject, request, needs)
        if saga is None or await _join(saga, events, needs):
            return
        request = None  # it came before: somebody has begun the saga


async def reconcile(needs: Needs) -> None:
    """Act on every saga whose deadline has passed.

    Replicas may find the same ones; the version in each write lets one of them act.

    Raises:
        Exception: What became of one that could not be acted on; the others were.
    """
    while True:
        overdue = await needs.sagas.find(
            {"due_at": {"$lte": needs.clock.now()}}, sort=[("due_at", 1)], limit=_PAGE
        )
        ends = await asyncio.gather(
            *(_on_deadline(saga["saga_id"], needs) for saga in overdue), return_exceptions=True
        )
        for failure in (end for end in ends if end is not None):
            raise failure
        if len(overdue) < _PAGE:
            return


async def _saga_of(execution_id: str, request: Event | None, needs: Needs) -> Document | None:
    """Return the saga as it was last known; a write will tell if that is not how it is now."""
    saga_id = saga_id_of(execution_id)
    saga = needs.known.take(saga_id)
    if saga is not None:
        return saga
    if request is not None and isinstance(request.data, ExecutionRequested):
        return _new(_origin_of(request, request.data), needs)
    saga = await needs.sagas.get(saga_id)
    if saga is not None:
        return saga
    # Another fact came first.
    execution = await needs.executions.get(execution_id)
    return None if execution is None else _new(execution, needs)


def _origin_of(event: Event, request: ExecutionRequested) -> Document:
    """Return what of an execution its request tells as well."""
    return {
        "execution_id": request.execution_id,
        "user_id": request.user_id,
        "accepted_at": request.accepted_at,
        "timeout_seconds": request.timeout_seconds,
        "correlation_id": event.correlation_id,
        "traceparent": event.traceparent,
    }


def _new(execution: Document, needs: Needs) -> Document:
    """Return the saga of an execution as it begins."""
    limit = needs.settings.queue_limit
    now = needs.clock.now()
    accepted = execution["accepted_at"]
    return {
        "version": 0,
        "saga_id": saga_id_of(execution["execution_id"]),
        "saga_name": rules.NAME,
        "execution_id": execution["execution_id"],
        "user_id": execution["user_id"],
        "correlation_id": execution["correlation_id"],
        "traceparent": execution["traceparent"],
        "state": "running",
        "facts": {"requested": accepted},
        "context": {"timeout_seconds": execution["timeout_seconds"], "attempts": 1},
        "compensated_steps": [],
        "completed_steps": [],
        "steps": [],
        "error_message": None,
        "created_at": now,
        "updated_at": now,
        "completed_at": None,
        "retry_count": 0,
        "deadline_at": rules.whole_deadline(accepted, execution["timeout_seconds"], limit),
        "queue_deadline_at": rules.queue_deadline(accepted, limit),
    }


async def _join(saga: Document, events: Sequence[Event], needs: Needs) -> bool:
    """Write what the facts change; say whether there was nothing to write or it was written."""
    if saga["completed_at"] is not None:
        return all([await _join_late(saga, event, needs) for event in events])
    before = set(rules.completed_steps(saga["facts"]))
    commands: list[Event] = []
    is_changed = saga["version"] == 0
    for event in events:
        if isinstance(event.data, ResultStored):
            await _catch_up(saga, needs)
        noted = _note(saga, event, needs)
        is_changed = is_changed or noted is not None
        commands += noted or []
    if not is_changed:
        return True
    emit = _steps_done(saga, before, needs) + commands
    if rules.is_over(saga["facts"]):
        emit += _finish(saga, needs)
    if saga["version"] == 0:
        started = SagaStarted(**_who(saga), initial_event_id=events[0].id)
        return await _insert(saga, [_say(saga, started, needs), *emit], needs)
    return await _save(saga, emit, needs)


async def _join_late(saga: Document, event: Event, needs: Needs) -> bool:
    """Order the removal of a pod that appears after the end, as a slow launch makes it."""
    if not isinstance(event.data, PodCreated) or "pod_created" in saga["facts"]:
        return True
    saga["facts"]["pod_created"] = event.time
    return await _save(saga, [_delete(saga, "orphan", needs, step="late")], needs)


async def _catch_up(saga: Document, needs: Needs) -> None:
    """Note that a slot was granted, where the end came before the word of it: a pod may exist."""
    if "granted" in saga["facts"]:
        return
    execution = await needs.executions.get(saga["execution_id"])
    if execution is not None and execution.get("scheduled_at"):
        saga["facts"]["granted"] = execution["scheduled_at"]
        saga["facts"].setdefault("queued", execution["scheduled_at"])


def _note(saga: Document, event: Event, needs: Needs) -> list[Event] | None:
    """Enter the fact; return the commands that follow from it, or None where it is known."""
    facts, context = saga["facts"], saga["context"]
    match event.data:
        case ExecutionRequested() | ExecutionRejected(execution_id=None):
            return None
        case ExecutionQueued(position=0):
            return _first(facts, "granted", event.time, also="queued")
        case ExecutionQueued():
            return _first(facts, "queued", event.time)
        case PodCreated():
            if _first(facts, "pod_created", event.time) is None:
                return None
            return _pod_appeared(saga, needs)
        case ExecutionStarted():
            return _first(facts, "started", event.time)
        case ExecutionCancelRequested(cancelled_by=by, reason=reason):
            if context.get("cancel_requested_at"):
                return None
            context |= {"cancel_requested_at": event.time, "cancelled_by": by, "reason": reason}
            made = _may_have_pod(facts) and "ended" not in facts
            return [_delete(saga, "cancelled", needs)] if made else []
        case (
            ExecutionCompleted()
            | ExecutionFailed()
            | ExecutionTimeout()
            | ExecutionCancelled()
            | ExecutionRejected()
        ):
            saga["error_message"] = getattr(event.data, "error_message", None) or getattr(
                event.data, "message", None
            )
            return _first(facts, "ended", event.time)
        case ResultStored(status=status):
            if _first(facts, "result_stored", event.time, also="ended") is None:
                return None
            context["terminal"] = status
            return _clean_up(saga, needs)
        case PodDeleted():
            return _first(facts, "pod_deleted", event.time)
        case _:
            return None


def _first(
    facts: dict[str, datetime], fact: rules.Fact, at: datetime, *, also: rules.Fact | None = None
) -> list[Event] | None:
    """Enter a fact and what it implies; None where it was known."""
    if fact in facts:
        return None
    facts[fact] = at
    if also is not None:
        facts.setdefault(also, at)
    return []


def _may_have_pod(facts: dict[str, datetime]) -> bool:
    return "granted" in facts or "pod_created" in facts


def _pod_appeared(saga: Document, needs: Needs) -> list[Event]:
    """Remove again what was launched although it should not have been."""
    if "result_stored" in saga["facts"]:
        # It may have been made after the clean-up: the order goes out once more.
        saga["facts"].pop("pod_deleted", None)
        return [_delete(saga, "orphan", needs, step="late")]
    if saga["context"].get("cancel_requested_at") and "ended" not in saga["facts"]:
        return [_delete(saga, "cancelled", needs, step="late")]
    return []


def _clean_up(saga: Document, needs: Needs) -> list[Event]:
    """Order the removal of the pod, and say what is undone where the end was no success."""
    terminal = saga["context"]["terminal"]
    undone = rules.compensations(saga["facts"], terminal)
    emit = [
        _say(
            saga,
            SagaCompensating(**_who(saga), compensating_step=name, cause=terminal),
            needs,
            step=name,
        )
        for name in undone
    ]
    saga["compensated_steps"] = undone
    if undone:
        saga["state"] = "compensating"
    if not rules.is_over(saga["facts"]):
        emit.append(_delete(saga, "finished", needs))
    return emit


def _steps_done(saga: Document, before: set[str], needs: Needs) -> list[Event]:
    facts = saga["facts"]
    following = rules.current_step(facts)
    emit = []
    for step in rules.STEPS:
        if step.name in before or step.name not in rules.completed_steps(facts):
            continue
        began = rules.started_at(step, facts)
        ended = facts.get(step.completed_by, began)
        done = SagaStepCompleted(
            **_who(saga),
            step=step.name,
            duration_seconds=max(0.0, (ended - began).total_seconds()),
            next_step=following.name if following else None,
        )
        emit.append(_say(saga, done, needs, step=step.name))
    return emit


def _finish(saga: Document, needs: Needs) -> list[Event]:
    terminal = saga["context"].get("terminal")
    state = rules.final_state(terminal)
    saga["state"] = state
    saga["completed_at"] = needs.clock.now()
    completed = tuple(rules.completed_steps(saga["facts"]))
    undone = tuple(saga["compensated_steps"])
    last: Payload
    if state == "completed":
        last = SagaCompleted(**_who(saga), completed_steps=completed)
    elif state == "cancelled":
        last = SagaCancelled(
            **_who(saga),
            reason=saga["context"].get("reason"),
            cancelled_by=saga["context"].get("cancelled_by"),
            cancelled_at=saga["context"].get("cancel_requested_at") or saga["completed_at"],
            completed_steps=completed,
            compensated_steps=undone,
        )
    else:
        last = SagaFailed(
            **_who(saga),
            failed_step=rules.failed_step(saga["facts"]),
            state="timeout" if state == "timeout" else "failed",
            error=saga["error_message"] or f"The execution ended as {terminal}.",
            compensated_steps=undone,
        )
    return [_say(saga, last, needs)]


async def _on_deadline(saga_id: str, needs: Needs) -> None:
    """Act on the step that is overdue, unless it went on meanwhile."""
    while True:
        saga = await needs.sagas.get(saga_id)
        if saga is None or saga["completed_at"] is not None:
            return
        due = rules.deadline(saga)
        if due is not None and due > needs.clock.now():
            return
        if await _save(saga, await _overdue(saga, needs), needs):
            return


async def _overdue(saga: Document, needs: Needs) -> list[Event]:
    """Return what follows from the step under way not having happened in time."""
    facts, context = saga["facts"], saga["context"]
    step = rules.current_step(facts)
    if step is None:
        return []
    now = needs.clock.now()
    context["retried_at"] = now
    saga["retry_count"] += 1
    if "ended" not in facts and context.get("cancel_requested_at"):
        return _say_cancelled(saga, needs)
    if "result_stored" not in facts and now >= saga["deadline_at"]:
        return _force_end(saga, step, needs)
    match step.name:
        case "validate_execution" if context.get("alerted") != step.name:
            context["alerted"] = step.name
            return [_alert(saga, "admission_slow", "No queue took the execution in time.", needs)]
        case "validate_execution" | "allocate_resources":
            return [_failed(saga, "queue_expired", "No slot was free in time.", needs)]
        case "create_pod":
            return await _relaunch(saga, needs)
        case "start_script":
            return [
                _delete(saga, "deadline", needs),
                _failed(saga, "start_deadline", "The script did not start in time.", needs),
            ]
        case "run_script":
            return [_delete(saga, "deadline", needs), _timed_out(saga, needs)]
        case "store_result":
            context["alerted"] = step.name
            return [_alert(saga, "result_late", "A result was not stored in time.", needs)]
        case _:
            return _clean_up_again(saga, needs)


def _force_end(saga: Document, step: rules.Step, needs: Needs) -> list[Event]:
    """Say the terminal fact that never came, at the bound of the whole saga."""
    emit = [_delete(saga, "deadline", needs)] if _may_have_pod(saga["facts"]) else []
    if "started" in saga["facts"]:
        return [*emit, _timed_out(saga, needs)]
    reason = f"It did not get past {step.name} in the time that an execution has in all."
    return [*emit, _failed(saga, "saga_deadline", reason, needs)]


async def _relaunch(saga: Document, needs: Needs) -> list[Event]:
    """Order the launch again, under the same name, as long as no pod was ever made."""
    attempt = saga["context"]["attempts"] + 1
    execution = await needs.executions.get(saga["execution_id"])
    if attempt > rules.RELAUNCHES or execution is None:
        return [
            _delete(saga, "deadline", needs),
            _failed(saga, "launch_deadline", "No pod could be made in time.", needs),
        ]
    saga["context"]["attempts"] = attempt
    create = PodCreate(
        **order_of(execution),
        saga_id=saga["saga_id"],
        pool="default",
        scheduled_at=execution.get("scheduled_at") or needs.clock.now(),
        attempt=attempt,
    )
    return [_say(saga, create, needs, step=str(attempt))]


def _clean_up_again(saga: Document, needs: Needs) -> list[Event]:
    tries = saga["context"].get("clean_ups", 1)
    if tries >= rules.CLEAN_UPS:
        saga["facts"]["pod_deleted"] = needs.clock.now()
        alert = _alert(saga, "pod_left_behind", "A pod could not be removed.", needs)
        return [alert, *_finish(saga, needs)]
    saga["context"]["clean_ups"] = tries + 1
    return [_delete(saga, "finished", needs, step=str(tries + 1))]


async def _insert(saga: Document, emit: list[Event], needs: Needs) -> bool:
    """Write a new saga and what it says in one; False where somebody else was first."""
    _describe(saga)
    try:
        stored = await needs.sagas.insert(saga["saga_id"], saga | _due(saga), emit=emit)
    except AlreadyExists:
        return False
    needs.known.keep(stored)
    return True


async def _save(saga: Document, emit: list[Event], needs: Needs) -> bool:
    """Write the saga and what it says in one; False where somebody else was first."""
    _describe(saga)
    saga["updated_at"] = needs.clock.now()
    fields, due = {name: saga[name] for name in _CHANGING}, _due(saga)
    written = await needs.sagas.change(
        saga["saga_id"],
        when={"version": saga["version"]},
        set=fields | due,
        unset=() if due else ["due_at"],
        emit=emit,
    )
    if written is None:
        return False
    needs.known.keep(written)
    return True


def _due(saga: Document) -> dict[str, datetime]:
    """Return by when the saga has to be looked at; one that is over has no such field."""
    due = rules.deadline(saga) if saga["completed_at"] is None else None
    return {} if due is None else {"due_at": due}


def _describe(saga: Document) -> None:
    """Fill what only people read."""
    step = rules.current_step(saga["facts"])
    saga["current_step"] = step.name if step else None
    saga["completed_steps"] = rules.completed_steps(saga["facts"])
    if saga["completed_at"] is not None:
        saga["steps"] = rules.steps_view(saga)  # until then they follow from the facts


def _who(saga: Document) -> dict[str, Any]:
    return {
        "saga_id": saga["saga_id"],
        "execution_id": saga["execution_id"],
        "user_id": saga["user_id"],
    }


def _say(saga: Document, data: Payload, needs: Needs, *, step: str = "") -> Event:
    return of_execution(saga, data, source=SOURCE, at=needs.clock.now(), step=step)


def _delete(saga: Document, reason: DeleteReason, needs: Needs, *, step: str = "") -> Event:
    order = PodDelete(
        **_who(saga),
        pod_name=pod_name_of(saga["execution_id"]),
        namespace=needs.settings.namespace,
        reason=reason,
        grace_seconds=_GRACE[reason],
    )
    return _say(saga, order, needs, step=f"{reason}:{step}")


def _alert(saga: Document, alert: str, summary: str, needs: Needs) -> Event:
    data = SystemAlert(
        alert=alert,
        severity="high",
        summary=summary,
        details={"execution_id": saga["execution_id"]},
    )
    return _say(saga, data, needs, step=f"{alert}:{saga['retry_count']}")


def _failed(saga: Document, code: str, message: str, needs: Needs) -> Event:
    failed = ExecutionFailed(
        execution_id=saga["execution_id"],
        user_id=saga["user_id"],
        error_type=ErrorType.SYSTEM_ERROR.value,
        error_code=code,
        error_message=message,
        phase="launch",
        finished_at=needs.clock.now(),
    )
    return _say(saga, failed, needs)


def _timed_out(saga: Document, needs: Needs) -> Event:
    timeout = ExecutionTimeout(
        execution_id=saga["execution_id"],
        user_id=saga["user_id"],
        exit_code=-1,
        timeout_seconds=saga["context"]["timeout_seconds"],
        finished_at=needs.clock.now(),
    )
    return _say(saga, timeout, needs)


def _say_cancelled(saga: Document, needs: Needs) -> list[Event]:
    """End a cancelled run that has not reported its own end."""
    context = saga["context"]
    cancelled = ExecutionCancelled(
        execution_id=saga["execution_id"],
        user_id=saga["user_id"],
        cancelled_by=context["cancelled_by"],
        reason=context.get("reason"),
        forced=True,
        phase="run" if "started" in saga["facts"] else "launch",
        finished_at=needs.clock.now(),
    )
    return [_say(saga, cancelled, needs)]
