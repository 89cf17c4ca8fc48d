"""The saga as a table: what completes a step, how long it may take, what happens if it does not.

A saga is a join of facts, not a script: facts come over several topics, twice, and out of order.
What is stored is which facts were seen and when; everything else follows from that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from shared.domain.executions import SLACK

NAME = "execution_saga"

Fact = Literal[
    "requested",
    "queued",
    "granted",
    "pod_created",
    "started",
    "ended",
    "result_stored",
    "pod_deleted",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the fact that completes it, and the word by which its deadline is found."""

    name: str
    completed_by: Fact


STEPS = (
    Step("validate_execution", "queued"),
    Step("allocate_resources", "granted"),
    Step("create_pod", "pod_created"),
    Step("start_script", "started"),
    Step("run_script", "ended"),
    Step("store_result", "result_stored"),
    Step("clean_up", "pod_deleted"),
)
_LEVEL: Mapping[str, int] = {
    step.completed_by: number for number, step in enumerate(STEPS, start=1)
}
_RUNNING = STEPS[: _LEVEL["ended"] - 1]
"""Steps that have to be done before a script can end by itself."""
COMPENSATED = ("run_script", "start_script", "create_pod", "allocate_resources")
"""Steps that leave something behind, newest first."""

RELAUNCHES = 3
CLEAN_UPS = 5
CANCEL_WORD = timedelta(seconds=15)
"""How long a cancelled run has to report its own end before the saga says it."""

_ADMISSION = timedelta(seconds=60)
_CREATION = timedelta(seconds=60)
_START = timedelta(seconds=300)
_RUN_SLACK = timedelta(seconds=15)
_STORE = timedelta(seconds=30)
_CLEAN_UP = timedelta(seconds=30)
_AGAIN = timedelta(seconds=30)


def level(facts: Mapping[str, datetime]) -> int:
    """Return how many steps are behind: a later fact implies that the earlier steps are over."""
    return max((_LEVEL.get(fact, 0) for fact in facts), default=0)


def is_over(facts: Mapping[str, datetime]) -> bool:
    """Say whether nothing is left: cleaned up, or the result is in and no slot was granted."""
    if "pod_deleted" in facts and "result_stored" in facts:
        return True
    return "result_stored" in facts and "granted" not in facts and "pod_created" not in facts


def current_step(facts: Mapping[str, datetime]) -> Step | None:
    """Return the step that is under way."""
    if is_over(facts):
        return None
    return STEPS[min(level(facts), len(STEPS) - 1)]


def completed_steps(facts: Mapping[str, datetime]) -> list[str]:
    """Return the steps whose own completing fact was seen, in order."""
    return [
        step.name
        for step in STEPS
        if step.completed_by in facts or (step.name == "clean_up" and is_over(facts))
    ]


def started_at(step: Step, facts: Mapping[str, datetime]) -> datetime:
    """Return when a step began: at the latest fact of the steps before it."""
    number = STEPS.index(step)
    earlier = [at for fact, at in facts.items() if _LEVEL.get(fact, 0) <= number]
    return max(earlier)


def deadline(saga: Mapping[str, Any]) -> datetime | None:
    """Return when the step under way is overdue; None once nothing is left to do."""
    facts, context = saga["facts"], saga["context"]
    step = current_step(facts)
    if step is None:
        return None
    begun = max(started_at(step, facts), context.get("retried_at") or started_at(step, facts))
    due: datetime
    wait = {
        "validate_execution": _ADMISSION,
        "create_pod": _CREATION,
        "start_script": _START,
        "run_script": timedelta(seconds=context["timeout_seconds"]) + _RUN_SLACK,
        "store_result": _STORE,
        "clean_up": _CLEAN_UP,
    }.get(step.name)
    alerted = context.get("alerted") == step.name
    if step.name == "allocate_resources" or (alerted and step.name == "validate_execution"):
        due = saga["queue_deadline_at"]
    elif alerted:
        due = saga["deadline_at"]
    else:
        due = begun + (wait or timedelta(0))
    if context.get("cancel_requested_at") and "ended" not in facts:
        due = min(due, context["cancel_requested_at"] + CANCEL_WORD)
    # What was said at a deadline needs a while to come back as a fact, but no retry may push the
    # bound of the whole saga away; past that bound the last word is repeated like any other.
    retried = context.get("retried_at")
    if retried is not None:
        due = max(due, retried + _AGAIN)
    if "result_stored" not in facts and (retried is None or retried < saga["deadline_at"]):
        due = min(due, saga["deadline_at"])
    return due


def whole_deadline(accepted_at: datetime, timeout_seconds: int, queue_limit: timedelta) -> datetime:
    """Return when whatever is open is forced to a terminal fact."""
    return accepted_at + queue_limit + timedelta(seconds=timeout_seconds) + SLACK


def queue_deadline(accepted_at: datetime, queue_limit: timedelta) -> datetime:
    """Return when the queue must have granted or rejected."""
    return accepted_at + queue_limit + _RUN_SLACK


def steps_view(saga: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every step with its state and times, for people to look at."""
    facts = saga["facts"]
    now = current_step(facts)
    rows = []
    for step in STEPS:
        done = step.completed_by in facts
        state = "completed" if done else "pending"
        if step is now:
            state = "running"
        elif not done and (now is None or STEPS.index(step) < STEPS.index(now)):
            state = "skipped"
        begun = done or step is now
        rows.append(
            {
                "name": step.name,
                "state": state,
                "started_at": started_at(step, facts) if begun else None,
                "finished_at": facts.get(step.completed_by),
                "deadline_at": deadline(saga) if step is now else None,
            }
        )
    return rows


def final_state(terminal: str | None) -> str:
    """Return the saga's last state for the terminal status of its execution."""
    return {"completed": "completed", "timeout": "timeout", "cancelled": "cancelled"}.get(
        terminal or "", "failed"
    )


def compensations(facts: Mapping[str, datetime], terminal: str | None) -> list[str]:
    """Return the steps to undo after an end that was no success, newest first."""
    if terminal == "completed":
        return []
    done = {step.name for step in _RUNNING if step.completed_by in facts}
    under_way = {_step_of_the_end(facts).name} if "granted" in facts else set()
    return [name for name in COMPENSATED if name in done | under_way]


def failed_step(facts: Mapping[str, datetime]) -> str:
    """Return the step in which the run ended that did not succeed."""
    return _step_of_the_end(facts).name


def _step_of_the_end(facts: Mapping[str, datetime]) -> Step:
    """Return the step that was under way when the end came; the end itself completes none."""
    levels = [_LEVEL.get(fact, 0) for fact in facts]
    return STEPS[max((number for number in levels if number < _LEVEL["ended"]), default=0)]
