"""What of a terminal fact is stored, and under which status."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.domain.executions import ErrorType, Status
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionTimeout,
)

Terminal = (
    ExecutionCompleted | ExecutionFailed | ExecutionTimeout | ExecutionCancelled | ExecutionRejected
)
NO_EXIT_CODE = -1


def terminal_state(fact: Terminal, execution: Mapping[str, Any], *, at: datetime) -> dict[str, Any]:
    """Return the fields that a terminal fact writes.

    A recorded cancel turns every end into `cancelled`, and keeps the output. What failed before the
    script began, and what was rejected, is an `error`.
    """
    state = {
        "status": _status(fact, execution).value,
        "finished_at": getattr(fact, "finished_at", None) or at,
        "updated_at": at,
        **_error(fact),
    }
    if not isinstance(fact, ExecutionRejected):
        state |= {
            "stdout": _exact(fact.stdout, fact.stdout_base64),
            "stderr": _exact(fact.stderr, fact.stderr_base64),
            "stdout_truncated": fact.stdout_truncated,
            "stderr_truncated": fact.stderr_truncated,
            "exit_code": fact.exit_code,
            "resource_usage": fact.usage.model_dump() if fact.usage else None,
        }
    if state["status"] == Status.CANCELLED:
        state |= {"error_type": None, "error_code": None}
        state["error_message"] = _cancelled_sentence(execution)
    return state


def _status(fact: Terminal, execution: Mapping[str, Any]) -> Status:
    if execution.get("cancel_requested_at") or isinstance(fact, ExecutionCancelled):
        return Status.CANCELLED
    match fact:
        case ExecutionCompleted():
            return Status.COMPLETED
        case ExecutionTimeout():
            return Status.TIMEOUT
        case ExecutionFailed(phase=phase) if phase == "run" or execution.get("started_at"):
            # Who finds a run lost after a crash may not know any more that it had started.
            return Status.FAILED
        case _:
            return Status.ERROR


def _error(fact: Terminal) -> dict[str, Any]:
    match fact:
        case ExecutionFailed():
            known = fact.error_type in set(ErrorType)
            return {
                "error_type": fact.error_type if known else ErrorType.SYSTEM_ERROR.value,
                "error_code": fact.error_code,
                "error_message": fact.error_message,
            }
        case ExecutionTimeout():
            sentence = f"The script ran into its limit of {fact.timeout_seconds} s."
            return {
                "error_type": ErrorType.TIMEOUT.value,
                "error_code": "deadline",
                "error_message": fact.error_message or sentence,
            }
        case ExecutionRejected():
            return {
                "error_type": ErrorType.SYSTEM_ERROR.value,
                "error_code": fact.code,
                "error_message": fact.message,
            }
        case _:
            return {"error_type": None, "error_code": None, "error_message": None}


def _cancelled_sentence(execution: Mapping[str, Any]) -> str:
    reason = execution.get("cancel_reason")
    return f"Cancelled: {reason}" if reason else "Cancelled on request."


def _exact(text: str, encoded: str | None) -> bytes:
    return base64.b64decode(encoded) if encoded is not None else text.encode()
