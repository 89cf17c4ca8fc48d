"""What each event says on a stream."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway import messages
from gateway.messages import Life

AT = datetime(2026, 1, 1, tzinfo=UTC)
SIX = ["event_type", "execution_id", "timestamp", "event_id", "status", "result"]


def said(event_type: str, data: dict[str, Any], life: Life | None = None) -> dict[str, Any]:
    """Return the data of the message of an event."""
    event = {"event_type": event_type, "event_id": "e", "timestamp": AT, "data": data}
    message = messages.of_event(life or Life("x", "running"), 3, event, underscores=False)
    (head, line) = message.chunk.decode().removesuffix("\n\n").split("\n")
    assert head == "id: 3"
    found: dict[str, Any] = orjson.loads(line.removeprefix("data: "))
    return found


@pytest.mark.parametrize(
    ("event_type", "data", "status", "more"),
    [
        ("execution.requested", {}, "queued", {}),
        ("execution.queued", {"position": 4}, "queued", {"position": 4}),
        ("execution.queued", {"position": 0}, "scheduled", {"position": 0}),
        ("pod.created", {}, "launching", {}),
        ("pod.scheduled", {}, "launching", {}),
        ("pod.running", {}, "running", {}),
        ("execution.started", {}, "running", {}),
        ("execution.cancel_requested", {}, "running", {}),
        ("execution.completed", {}, "completed", {}),
        ("execution.failed", {"error_message": "killed"}, "failed", {"error": "killed"}),
        (
            "execution.timeout",
            {"timeout_seconds": 3},
            "timeout",
            {"error": "The script ran longer than 3 s."},
        ),
        ("execution.cancelled", {"reason": "enough"}, "cancelled", {"error": "enough"}),
        ("execution.rejected", {"message": "too old"}, "error", {"error": "too old"}),
        ("pod.terminated", {}, None, {}),
        ("pod.deleted", {}, None, {}),
        ("result_failed", {"error": "full"}, "running", {"error": "full"}),
        ("saga.started", {}, None, {}),
        ("something.new", {}, None, {}),
    ],
)
def test_each_type_leads_to_its_status(
    event_type: str, data: dict[str, Any], status: str | None, more: dict[str, Any]
) -> None:
    """The six keys always, further ones only where they belong."""
    found = said(event_type, data)

    assert list(found)[:6] == SIX
    assert found["status"] == status
    assert {key: found[key] for key in found if key not in SIX} == more


@pytest.mark.parametrize(("before", "status"), [("launching", "error"), ("running", "failed")])
def test_what_never_ran_is_an_error(before: str, status: str) -> None:
    """Also where whoever says so cannot know any more that it had started."""
    data = {"error_message": "gone", "phase": "launch"}

    assert said("execution.failed", data, Life("x", before))["status"] == status


def test_output_is_passed_on_without_more() -> None:
    """Stream, offset, data, encoding, truncated, and nothing else of the payload."""
    data = {
        "stream": "stdout",
        "offset": 7,
        "data": "é\n",
        "encoding": "utf-8",
        "truncated": False,
        "user_id": "somebody",
    }

    found = said("execution.output", data)

    assert found["output"] == {key: data[key] for key in data if key != "user_id"}
    assert found["status"] is None


@pytest.mark.parametrize("text", ["a\r\nb", "\n\ndata: forged", "\x00\x1b[31m", "\u2028\u2029"])
def test_output_cannot_forge_a_message(text: str) -> None:
    """Whatever a script prints stays one line of JSON."""
    data = {"stream": "stdout", "offset": 0, "data": text, "encoding": "utf-8"}

    assert said("execution.output", data)["output"]["data"] == text


@pytest.mark.parametrize(
    ("event_type", "group"),
    [
        ("execution.started", "execution"),
        ("execution.output", "output"),
        ("pod.created", "pod"),
        ("result_stored", "result"),
        ("result_failed", "result"),
        ("saga.failed", "saga"),
    ],
)
def test_each_type_belongs_to_a_part(event_type: str, group: str) -> None:
    """The parts are those that `include` names."""
    assert messages.group_of(event_type) == group
