"""What of an event is stored, and what it waits for."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from functions.relay_events import rules
from shared.events.event import Event
from shared.events.executions import ExecutionRejected, ExecutionStarted
from shared.events.results import ResultStored
from shared.events.security import AdminAction
from shared.events.system import SystemAlert
from tests import builders
from tests.builders import EXECUTION_ID, START, USER_ID

STARTED = ExecutionStarted(
    execution_id=EXECUTION_ID, user_id=USER_ID, pod_name="p", started_at=START
)
RESULT = ResultStored(
    execution_id=EXECUTION_ID,
    user_id=USER_ID,
    status="completed",
    storage_path="",
    size_bytes=0,
    result={},
    output_events=4,
)
ALERT = SystemAlert(alert="a", severity="low", summary="s")
ADMIN = AdminAction(
    actor_id="admin",
    action="user.disable",
    target_type="user",
    target_id="user-9",
    changes={"is_active": False},
)


def test_only_followers_wait_for_their_cause() -> None:
    """Their cause is sure to be part of the history."""
    follower = builders.event(STARTED, source="/integr8s/monitor-pods", causation_id="c")
    other = builders.event(STARTED, source="/integr8s/coordinate", causation_id="c")

    assert (rules.waits_for(follower), rules.waits_for(other)) == ("c", None)


def test_only_the_result_waits_for_outputs() -> None:
    """It says how many there were."""
    assert rules.outputs_before(builders.event(RESULT)) == 4
    assert rules.outputs_before(builders.event(STARTED)) == 0


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(builders.event(STARTED), True, id="of an execution"),
        pytest.param(builders.event(ALERT), False, id="of the system"),
        pytest.param(
            builders.event(ExecutionRejected(code="c", message="m")), False, id="of a refusal"
        ),
    ],
)
def test_only_events_of_executions_are_numbered(event: Event, expected: bool) -> None:  # noqa: FBT001
    """The rest is stored without a number."""
    document = rules.history_document(event, 1 if expected else None, START)

    assert rules.is_of_execution(event) is expected
    assert ("seq" in document) is expected
    assert ("execution_id" in document) is expected


def test_a_nudge_is_what_a_stream_shows() -> None:
    """On the channel of the execution."""
    document = rules.history_document(builders.event(STARTED), 7, START + timedelta(seconds=1))

    channel, message = rules.nudge(document)

    assert channel == f"sse:exec:{EXECUTION_ID}"
    shown: dict[str, Any] = orjson.loads(message)
    assert shown["seq"] == 7
    assert shown["event"]["event_type"] == "execution.started"
    assert shown["event"]["timestamp"] == "2026-01-01T00:00:00.000Z"


def test_an_administrators_deed_is_audited() -> None:
    """Who did what to whom."""
    entry = rules.audit_document(builders.event(ADMIN, subject="user-9"))

    assert entry is not None
    assert (entry["actor_id"], entry["action"], entry["target_id"]) == (
        "admin",
        "user.disable",
        "user-9",
    )


def test_other_events_are_not_audited() -> None:
    """The audit log is about people and rights."""
    assert rules.audit_document(builders.event(ALERT)) is None
