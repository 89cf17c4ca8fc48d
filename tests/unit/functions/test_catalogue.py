"""The functions say and hear what the catalogue of events says they do."""

import pytest

from shared.events.catalogue import TYPES
from shared.runtime.functions import SLUGS, load

SUB, COO, SAG, LAU, MON = "submit", "coordinate", "saga-step", "launch-pod", "monitor-pods"
RES, REL, DLQ, TIM = "persist-result", "relay-events", "retry-dead-letters", "fire-timers"
GATEWAY, OTHERS = "gateway", "other systems"

CATALOGUE: dict[str, tuple[set[str], set[str]]] = {
    # type: who says it, who waits for it (relay-events, which takes whole topics, aside)
    "execution.submit": ({OTHERS}, {SUB}),
    "execution.requested": ({SUB}, {COO, SAG}),
    "execution.queued": ({COO}, {SAG}),
    "execution.rejected": ({COO, SUB}, {RES, SAG}),
    "execution.scheduled": ({COO}, {LAU}),
    # Status `running` is persist-result's to write.
    "execution.started": ({MON}, {SAG, RES}),
    "execution.output": ({MON}, set()),
    "execution.completed": ({MON}, {RES, SAG}),
    "execution.failed": ({MON, LAU, SAG}, {RES, SAG}),
    "execution.timeout": ({MON, SAG}, {RES, SAG}),
    "execution.cancel_requested": ({GATEWAY}, {COO, SAG}),
    # Launch-pod says it where the cancel came before any pod.
    "execution.cancelled": ({COO, MON, SAG, LAU}, {RES, SAG}),
    "pod.create": ({SAG}, {LAU}),
    "pod.delete": ({SAG}, {LAU}),
    # Said by the monitor: facts about a pod come from one mouth, in order.
    "pod.created": ({MON}, {SAG}),
    # These three tell people; the saga's steps are completed by others.
    "pod.scheduled": ({MON}, set()),
    "pod.running": ({MON}, set()),
    "pod.terminated": ({MON}, set()),
    "pod.deleted": ({LAU}, {SAG}),
    "result_stored": ({RES}, {COO, SAG}),
    "saga.started": ({SAG}, set()),
    "saga.step_completed": ({SAG}, set()),
    "saga.compensating": ({SAG}, set()),
    "saga.completed": ({SAG}, set()),
    "saga.failed": ({SAG}, set()),
    "saga.cancelled": ({SAG}, set()),
    "dlq.received": ({DLQ}, set()),
    "dlq.retried": ({DLQ}, set()),
    "dlq.parked": ({DLQ}, set()),
    # A saga carries its deadline itself and looks for what is overdue.
    "timer.due": ({TIM}, {COO, DLQ}),
    "system.alert": ({SAG, DLQ}, set()),
}
GATEWAYS = {"user.", "security.", "script.", "settings."}
"""Families that only the gateway says and only people read."""
COMES_LATER = {
    "result_failed",
    "dlq.discarded",
    "notification.created",
    "notification.delivered",
    "notification.failed",
    "replay.requested",
    "replay.paused",
    "replay.resumed",
    "replay.cancelled",
    "replay.started",
    "replay.progressed",
    "replay.completed",
    "replay.failed",
}
"""Declared, so that clients can prepare; no function says or waits for them yet."""


def of_gateway(name: str) -> bool:
    """Say whether a type belongs to a family of the gateway's."""
    return name.startswith(tuple(GATEWAYS))


def test_every_declared_type_has_its_place() -> None:
    """A type that nobody says and nobody waits for is a promise that nobody keeps."""
    placed = set(CATALOGUE) | COMES_LATER | {name for name in TYPES if of_gateway(name)}

    assert placed == set(TYPES)
    assert not set(CATALOGUE) & COMES_LATER


@pytest.mark.parametrize("slug", SLUGS)
def test_a_function_says_what_the_catalogue_says(slug: str) -> None:
    """No more, no less."""
    said = {payload.TYPE for payload in load(slug).spec.emits}

    assert said == {name for name, (says, _) in CATALOGUE.items() if slug in says}


@pytest.mark.parametrize("slug", SLUGS)
def test_a_function_waits_for_what_the_catalogue_says(slug: str) -> None:
    """No more, no less."""
    wanted = {payload.TYPE for payload in load(slug).spec.consumes}

    assert wanted == {name for name, (_, waits) in CATALOGUE.items() if slug in waits}


def test_the_catalogue_names_only_what_exists() -> None:
    """A slug that was renamed would hide in it."""
    named = {who for pair in CATALOGUE.values() for names in pair for who in names}

    assert named - {GATEWAY, OTHERS} == set(SLUGS) - {REL}


def test_work_has_one_consumer() -> None:
    """Two would launch twice."""
    for name in ("execution.scheduled", "pod.create", "pod.delete"):
        takers = {slug for slug in SLUGS if TYPES[name].TOPIC in load(slug).spec.topics}
        assert takers == {LAU}, name


def test_every_fact_that_has_a_history_is_relayed() -> None:
    """Each topic that clients see is taken whole."""
    relayed = set(load(REL).spec.whole_topics)
    commands = {"execution_tasks", "saga_commands", "execution_submissions", "timers"}
    replays = {"replay_commands"}

    assert {TYPES[name].TOPIC for name in TYPES} - relayed == commands | replays
