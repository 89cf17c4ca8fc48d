"""The simulation finds bugs: each of these, planted on purpose, is caught within a few seeds."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from functions.coordinate import rules as coordinate_rules
from functions.launch_pod import handler as launch_pod
from functions.persist_result import handler as persist_result
from functions.persist_result import rules as persist_rules
from functions.relay_events import handler as relay_events
from functions.relay_events import rules as relay_rules
from functions.saga_step import rules as saga_rules
from shared.adapters.scripted.cluster import ScriptedCluster
from shared.domain.errors import AlreadyExists
from shared.events.event import Event
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Collection, Document
from shared.ports.event_log import Record
from shared.runtime.outbox import Outbox, OutboxDocuments, record_of
from shared.runtime.pump import Pump
from tests.simulation.run import Report, simulate

BUDGET = 100
"""Seeds within which a bug has to show."""

pytestmark = pytest.mark.simulate

Plant = Callable[[pytest.MonkeyPatch], None]


def no_status_in_the_condition(patch: pytest.MonkeyPatch) -> None:
    """Let any terminal fact overwrite the one before it."""
    patch.setattr(persist_result, "TERMINAL", frozenset())
    patch.setattr(persist_result, "NOT_TERMINAL", {"$exists": True})


def publish_before_store(patch: pytest.MonkeyPatch) -> None:
    """Tell of a change first, and write it afterwards, if at all."""
    change = OutboxDocuments.change

    async def hasty(
        self: OutboxDocuments, key: str, *, emit: Sequence[Event] = (), **rest: Any
    ) -> Document | None:
        if emit:
            await self._outbox._log.append([record_of(event) for event in emit])
        return await change(self, key, **rest)

    patch.setattr(OutboxDocuments, "change", hasty)


def commit_before_handling(patch: pytest.MonkeyPatch) -> None:
    """Count a record as done when it is read."""
    take = Pump._take

    def hasty(self: Pump, record: Record) -> None:
        take(self, record)
        self._finished(record)

    patch.setattr(Pump, "_take", hasty)


def slot_never_freed(patch: pytest.MonkeyPatch) -> None:
    """Forget to give a slot back."""

    def forget(pool: coordinate_rules.Pool, over: frozenset[str]) -> coordinate_rules.Pool:
        del over
        return pool

    patch.setattr(coordinate_rules, "without", forget)


def no_unique_number(patch: pytest.MonkeyPatch) -> None:
    """Let two events of one execution have one number."""
    events = COLLECTIONS["events"]
    loose = Collection(events.name, tuple(i for i in events.indexes if not i.unique))
    patch.setitem(COLLECTIONS, "events", loose)


def no_sweep(patch: pytest.MonkeyPatch) -> None:
    """Leave what a crash kept in the outboxes where it is."""

    async def nothing(self: Outbox) -> int:
        del self
        return 0

    patch.setattr(Outbox, "sweep", nothing)


def counter_first(patch: pytest.MonkeyPatch) -> None:
    """Take the next number before it is known whether the event is new."""

    async def store_all(events: Sequence[Event], needs: relay_events.Needs) -> None:
        for event in events:
            seq = needs.history.last.get(event.subject, 0) + 1
            needs.history.last[event.subject] = seq
            document = relay_rules.history_document(event, seq, needs.clock.now())
            with suppress(AlreadyExists):
                await needs.events.insert(event.id, document)

    patch.setattr(relay_events, "_store_all", store_all)


def no_clean_up(patch: pytest.MonkeyPatch) -> None:
    """Think that everything is over as soon as the result is stored."""
    patch.setattr(saga_rules, "is_over", lambda facts: "result_stored" in facts)


def names_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Let a launch that is late make the pod of an execution that is over a second time."""

    async def claim(event: Event, needs: launch_pod.Needs) -> Mapping[str, Any] | None:
        return await needs.executions.get(event.subject)

    patch.setattr(launch_pod, "_claim", claim)
    patch.setattr(ScriptedCluster, "remembers", False, raising=False)


def cancel_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Store the end that came, whatever somebody asked for."""
    state = persist_rules.terminal_state

    def deaf(fact: Any, execution: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        return state(fact, {**execution, "cancel_requested_at": None}, **rest)

    patch.setattr(persist_rules, "terminal_state", deaf)


PLANTS: list[tuple[Plant, set[int]]] = [
    (no_status_in_the_condition, {2, 13}),
    (publish_before_store, {1, 2, 17}),
    (commit_before_handling, {2, 5, 9}),
    (slot_never_freed, {2, 8}),
    (no_unique_number, {9}),
    (no_sweep, {2, 17}),
    (counter_first, {9}),
    (no_clean_up, {5}),
    (names_are_forgotten, {4}),
    (cancel_is_forgotten, {13}),
]


def first_run_that_breaks(rules: set[int]) -> Report | None:
    """Return the report of the first seed that breaks one of these invariants, or None."""
    reports = map(simulate, range(BUDGET))
    return next((r for r in reports if rules & {v.invariant for v in r.violations}), None)


@pytest.mark.parametrize(
    ("plant", "broken"),
    [pytest.param(plant, broken, id=plant.__name__) for plant, broken in PLANTS],
)
def test_a_planted_bug_is_caught(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, broken: set[int]
) -> None:
    """A well-known mistake breaks the invariant that it is known to break."""
    plant(monkeypatch)

    report = first_run_that_breaks(broken)

    assert report is not None, f"{BUDGET} seeds did not find it"
    assert report.bugs == []
