"""Submissions by CloudEvent."""

from typing import Any

import orjson
import pytest

from tests.gateway.browser import Browser
from tests.gateway.site import Site

PATH = "/api/v1/cloudevents"
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


def event(event_id: str = "1", **changes: Any) -> dict[str, Any]:
    """Return an event in structured form."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/ci",
        "type": "execution.submit",
        "datacontenttype": "application/json",
        "data": {"script": "print(1)"},
        **changes,
    }


@pytest.fixture
async def robot(site: Site) -> Browser:
    """Return a client that may post events."""
    return await site.key(await site.user(), "cloudevents")


async def test_a_structured_event_becomes_an_execution(site: Site, robot: Browser) -> None:
    """The answer is that of a submit; its trace goes on."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    answer = await robot.post(PATH, body=orjson.dumps(event(traceparent=trace)), headers=STRUCTURED)

    execution = await site.ports.executions.get(answer.json["execution_id"])
    assert answer.status == 200
    assert execution is not None
    assert execution["traceparent"] == trace


async def test_a_binary_event_becomes_an_execution(robot: Browser) -> None:
    """Attributes in headers, the body is the data."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/ci",
        "ce-type": "execution.submit",
    }

    assert (await robot.post(PATH, json={"script": ""}, headers=headers)).status == 200


async def test_an_event_sent_again_is_the_same_execution(robot: Browser) -> None:
    """Source and id are its key, in every mode."""
    first = await robot.post(PATH, body=orjson.dumps(event()), headers=STRUCTURED)
    again = await robot.post(PATH, body=orjson.dumps([event()]), headers=BATCH)

    assert again.json["results"][0]["execution_id"] == first.json["execution_id"]


async def test_the_same_name_from_another_user_is_another_event(site: Site, robot: Browser) -> None:
    """Nobody gets at an execution by guessing the name of an event."""
    other = await site.key(await site.user("bob"), "cloudevents")
    body = orjson.dumps(event())

    mine = await robot.post(PATH, body=body, headers=STRUCTURED)
    theirs = await other.post(PATH, body=body, headers=STRUCTURED)

    assert mine.json["execution_id"] != theirs.json["execution_id"]


async def test_a_batch_answers_for_each_event(robot: Browser) -> None:
    """In order, each with its own fate."""
    events = [
        event("1"),
        event("2", data={"script": 1}),
        event("3", type="order.placed"),
        event("1"),
    ]

    results = (await robot.post(PATH, body=orjson.dumps(events), headers=BATCH)).json["results"]

    assert [one["id"] for one in results] == ["1", "2", "3", "1"]
    assert [one["status"] for one in results] == ["queued", "refused", "refused", "queued"]
    assert results[1]["problem"]["code"] == "validation_failed"
    assert results[3]["execution_id"] == results[0]["execution_id"]


async def test_a_batch_fails_as_a_whole_only_for_a_passing_reason(robot: Browser) -> None:
    """A full queue refuses the rest; where it refuses all, the batch may be sent again."""
    first = await robot.post(
        PATH, body=orjson.dumps([event(str(n)) for n in range(6)]), headers=BATCH
    )
    second = await robot.post(PATH, body=orjson.dumps([event("7"), event("8")]), headers=BATCH)

    assert [one["status"] for one in first.json["results"]] == ["queued"] * 5 + ["refused"]
    assert (second.status, second.json["code"]) == (503, "unavailable")


async def test_an_empty_batch_is_fine(robot: Browser) -> None:
    """There is nothing to answer for."""
    answer = await robot.post(PATH, body=b"[]", headers=BATCH)

    assert (answer.status, answer.json) == (200, {"results": []})


async def test_a_batch_is_bounded(robot: Browser) -> None:
    """A hundred, not one more."""
    body = orjson.dumps([event(str(n)) for n in range(101)])

    assert (await robot.post(PATH, body=body, headers=BATCH)).status == 422


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"{}", STRUCTURED, 400, id="no-attributes"),
        pytest.param(b"{", STRUCTURED, 400, id="no-json"),
        pytest.param(orjson.dumps(event(specversion="0.3")), STRUCTURED, 400, id="old"),
        pytest.param(orjson.dumps(event(id="")), STRUCTURED, 400, id="no-id"),
        pytest.param(orjson.dumps(event("x" * 1025)), STRUCTURED, 400, id="long-id"),
        pytest.param(orjson.dumps([event(), {}]), BATCH, 400, id="one-bad-of-a-batch"),
        pytest.param(b"{}", {"content-type": "application/json"}, 400, id="no-event-at-all"),
        pytest.param(b"x", {"content-type": "application/cloudevents+avro"}, 415, id="avro"),
        pytest.param(orjson.dumps(event(data=[1])), STRUCTURED, 422, id="data-no-object"),
        pytest.param(orjson.dumps(event(data={})), STRUCTURED, 422, id="no-script"),
    ],
)
async def test_a_malformed_event_is_refused_and_leaves_nothing(
    site: Site, robot: Browser, body: bytes, headers: dict[str, str], status: int
) -> None:
    """400 for what is no event, 422 for what is no submission."""
    answer = await robot.post(PATH, body=body, headers=headers)

    assert answer.status == status
    assert await site.ports.executions.count() == 0


async def test_posting_needs_a_key_with_the_scope(site: Site) -> None:
    """Keys for other things are refused."""
    other = await site.key(await site.user("bob"), "execute")

    answer = await other.post(PATH, body=orjson.dumps(event()), headers=STRUCTURED)

    assert (answer.status, answer.json["code"]) == (403, "scope_missing")


async def test_permission_is_given_to_configured_origins() -> None:
    """As the webhook specification asks for it; others get no permission."""
    site = await Site(webhook_origins={"events.example"}).open()
    answers = [
        await site.browser().request("OPTIONS", PATH, headers={"webhook-request-origin": origin})
        for origin in ("events.example", "evil.example")
    ]
    bare = await site.browser().request("OPTIONS", PATH)
    await site.close()

    assert answers[0].status == 200
    assert answers[0].header("webhook-allowed-origin") == "events.example"
    assert answers[0].header("webhook-allowed-rate") == "60"
    assert (answers[1].status, bare.status) == (403, 400)
    assert answers[1].header("webhook-allowed-origin") is None
