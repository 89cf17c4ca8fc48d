"""Keep an execution's document in step with the facts: it runs, and then one end, the first."""

from typing import NamedTuple

from functions.persist_result import rules
from shared.domain.executions import NOT_TERMINAL, TERMINAL, Status
from shared.domain.results import result_object
from shared.events.event import Event
from shared.events.executions import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimeout,
)
from shared.events.origins import of_execution
from shared.events.results import ResultStored
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.remembered import Remembered

SOURCE = "/integr8s/persist-result"
_REMEMBERED = 500
_LARGE = ("script", "stdin", "files")
"""What may be megabytes, and nothing here asks for."""


class Running(Remembered):
    """Executions as this replica last wrote them, each for its end."""

    def __init__(self) -> None:
        """Know of none."""
        super().__init__(_REMEMBERED)

    def keep(self, execution: Document) -> None:
        """Remember an execution that has started."""
        kept = {name: value for name, value in execution.items() if name not in _LARGE}
        self.remember(execution["execution_id"], kept)


class Needs(NamedTuple):
    """The ports of this function, and what one replica remembers."""

    executions: Documents
    clock: Clock
    running: Running


async def handle(event: Event, needs: Needs) -> None:
    """Store that it runs, or how it ended, however often and in whatever order facts arrive."""
    match event.data:
        case ExecutionStarted():
            await _run(event.data, needs)
        case (
            ExecutionCompleted()
            | ExecutionFailed()
            | ExecutionTimeout()
            | ExecutionCancelled()
            | ExecutionRejected()
        ):
            await _end(event, event.data, needs)
        case _:
            pass


async def _run(fact: ExecutionStarted, needs: Needs) -> None:
    running = await needs.executions.change(
        fact.execution_id,
        when={"status": {"$in": [Status.SCHEDULED.value, Status.LAUNCHING.value]}},
        set={
            "status": Status.RUNNING.value,
            "started_at": fact.started_at,
            "updated_at": needs.clock.now(),
        },
    )
    if running is not None:
        needs.running.keep(running)


async def _end(event: Event, fact: rules.Terminal, needs: Needs) -> None:
    """Make the first terminal fact the result; later ones change nothing and are not announced.

    The version is part of the condition: a cancel that is recorded between our reading and our
    writing must still turn this end into a cancelled one.
    """
    if fact.execution_id is None:
        return  # refused at submit: nothing was stored
    known = needs.running.take(fact.execution_id)
    execution = known or await needs.executions.get(fact.execution_id)
    while execution is not None and execution["status"] not in TERMINAL:
        state = rules.terminal_state(fact, execution, at=needs.clock.now())
        stored = await needs.executions.change(
            fact.execution_id,
            when={"version": execution["version"], "status": NOT_TERMINAL},
            set=state,
            emit=[_result_stored({**execution, **state}, event, needs)],
        )
        if stored is not None:
            return
        execution = await needs.executions.get(fact.execution_id)


def _result_stored(execution: Document, event: Event, needs: Needs) -> Event:
    size = len(execution.get("stdout") or b"") + len(execution.get("stderr") or b"")
    stored = ResultStored(
        execution_id=execution["execution_id"],
        user_id=execution["user_id"],
        status=execution["status"],
        storage_path=execution["execution_id"],
        size_bytes=size,
        result=result_object(execution),
        output_events=getattr(event.data, "output_events", 0),
    )
    return of_execution(
        execution, stored, source=SOURCE, at=needs.clock.now(), causation_id=event.id
    )
