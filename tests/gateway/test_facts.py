"""Health, limits, examples, the administrators' views, and the OpenAPI document."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

import gateway
from gateway import openapi, schemas
from gateway.app import operations
from gateway.services import Services
from shared.domain import input_limits
from tests.gateway.site import Site

OPENAPI = Path(gateway.__file__).parent / "openapi.json"


async def test_live_touches_nothing(site: Site) -> None:
    """It tells how long the process has turned."""
    await site.clock.advance(timedelta(seconds=61.5))

    answer = await site.browser().get("/api/v1/health/live")

    assert schemas.Live.model_validate(answer.json).uptime_seconds == 61


@pytest.mark.parametrize(
    ("away", "status", "word"),
    [
        ({}, 200, "ready"),
        ({"signals": "degraded"}, 200, "degraded"),
        ({"event_log": "down", "cluster": "down"}, 200, "degraded"),
        ({"documents": "down"}, 503, "unready"),
    ],
)
async def test_ready_says_what_is_away(
    site: Site, away: dict[str, str], status: int, word: str
) -> None:
    """Only without documents no work can be taken."""
    site.checks.update(away)

    answer = await site.browser().get("/api/v1/health/ready")

    assert (answer.status, answer.json["status"]) == (status, word)
    schemas.Ready.model_validate(answer.json)


async def test_limits_offer_what_runs_here(site: Site) -> None:
    """Only languages of this machine, with cache headers for proxies."""
    answer = await site.browser().get("/api/v1/k8s-limits")

    limits = schemas.Limits.model_validate(answer.json)
    assert set(limits.supported_runtimes) == {"python", "bash"}
    assert answer.header("cache-control") == "public, max-age=300"
    assert answer.header("vary") == "Accept-Encoding"


async def test_the_limits_shown_are_those_that_submit_keeps(site: Site) -> None:
    """Two numbers for one thing would be one too many."""
    answer = await site.browser().get("/api/v1/k8s-limits")

    limits = schemas.Limits.model_validate(answer.json)
    shown = (limits.script_max_chars, limits.stdin_max_bytes, limits.files_max_bytes)
    assert shown == (
        input_limits.SCRIPT_CHARS,
        input_limits.STDIN_BYTES,
        input_limits.ALL_BYTES,
    )


async def test_there_is_an_example_for_each_language(site: Site) -> None:
    """The files that the documentation shows too."""
    answer = await site.browser().get("/api/v1/example-scripts")

    assert set(answer.json["scripts"]) == {"python", "bash"}
    assert "Python 3.10" in answer.json["scripts"]["python"]
    assert answer.header("cache-control") == "public, max-age=600"


async def test_the_queue_shows_depth_slots_and_users(site: Site) -> None:
    """Depth is a count; who runs most comes first."""
    ada, bob = await site.user("ada"), await site.user("bob")
    await site.submit(ada, priority="low")
    await site.submit(ada)
    await site.clock.advance(timedelta(seconds=3))
    running = await site.submit(bob)
    bob_id = (await bob.get("/api/v1/auth/me")).json["user_id"]
    await site.ports.executions.change(running, set={"status": "running"})
    pool = {
        "name": "default",
        "capacity": {"slots": 4, "cpu": 32000, "memory": 1024},
        "holders": {running: {"user": bob_id, "cpu": 1, "memory": 1, "since": site.clock.now()}},
    }
    await site.ports.pools.insert("default", pool)

    answer = await (await site.admin()).get("/api/v1/admin/executions/queue")

    queue = schemas.Queue.model_validate(answer.json)
    assert (queue.queue_depth, queue.active_count, queue.max_concurrent) == (2, 1, 4)
    assert queue.oldest_wait_seconds == 3.0
    assert answer.json["by_priority"] == {
        "critical": 0, "high": 0, "normal": 1, "low": 1, "background": 0,
    }  # fmt: skip
    assert [(user.queued, user.running) for user in queue.top_users] == [(0, 1), (2, 0)]


async def test_scaling_shows_each_function_and_its_history(site: Site) -> None:
    """Who is awake, and which rule decided."""
    admin = await site.admin()

    now = await admin.get("/api/v1/admin/scaling")
    history = await admin.get("/api/v1/admin/scaling/coordinate/history?minutes=5")
    unknown = await admin.get("/api/v1/admin/scaling/nobody/history")
    too_long = await admin.get("/api/v1/admin/scaling/coordinate/history?minutes=1441")

    assert schemas.ScalingAnswer.model_validate(now.json).functions[0].replicas == 1
    assert len(schemas.ScalingHistory.model_validate(history.json).points) == 1
    assert (unknown.status, too_long.status) == (404, 422)


def document(site: Site) -> dict[str, Any]:
    """Return the document of today's operations."""
    services: Services = site.app.state.services
    return openapi.document(operations(services))


async def test_the_kept_document_is_up_to_date(site: Site) -> None:
    """To write it anew: `python -m tests.gateway.write_openapi`."""
    assert json.loads(OPENAPI.read_text()) == json.loads(json.dumps(document(site)))


async def test_every_reference_of_the_document_leads_somewhere(site: Site) -> None:
    """No schema is missing, and no operation id stands there twice."""
    text = json.dumps(document(site))
    defined = set(document(site)["components"]["schemas"])
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    ids = [
        operation["operationId"]
        for path in document(site)["paths"].values()
        for operation in path.values()
    ]

    assert used <= defined
    assert len(ids) == len(set(ids))


async def test_answers_are_as_the_document_says(site: Site) -> None:
    """Each operation that reads answers what its model promises, and nothing beyond it."""
    admin = await site.admin()
    execution_id = await site.submit(admin)
    await site.happened(execution_id, "execution.requested")
    await site.ended(execution_id)
    services: Services = site.app.state.services
    checked = 0
    for operation in operations(services):
        if (
            operation.method != "GET"
            or operation.answer is None
            or isinstance(operation.answer, str)
        ):
            continue
        path = operation.path.format(execution_id=execution_id, slug="coordinate")
        answer = await admin.get(f"/api/v1{path}")
        adapter: TypeAdapter[BaseModel] = TypeAdapter(operation.answer)
        adapter.validate_python(answer.json)
        checked += 1

    assert checked == 13


async def test_the_document_is_served_in_development_only(site: Site) -> None:
    """Elsewhere it is a file of the repository."""
    other = await Site(development_mode=True).open()
    shown = await other.browser().get("/openapi.json")
    hidden = await site.browser().get("/openapi.json")
    await other.close()

    assert (shown.status, hidden.status) == (200, 404)
    assert shown.json["info"]["title"] == "integr8s"
