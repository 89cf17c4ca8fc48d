"""From every function at zero to a stored result, on the real engines."""

import asyncio
import json
from time import perf_counter

import httpx2
import pytest

from tests.cluster.installation import Installation
from tests.ledger import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ASLEEP_SECONDS = 120
POSTER = "/tests/cluster"
HELLO = "print('hello from a pod')"


async def test_an_http_submit_reaches_its_result_from_zero(world: Installation) -> None:
    """The client sees every step on its stream, and afterwards everything sleeps again."""
    await world.until_asleep(ASLEEP_SECONDS)

    begun = perf_counter()
    execution_id = await world.submit(HELLO)
    world.outputs[execution_id] = b"hello from a pod\n"
    stream = await world.follow(execution_id)
    taken = perf_counter() - begun

    types = [frame.event_type for frame in stream.frames]
    assert "result_stored" in types
    print(f"from zero to the stored result: {taken:.1f} s")  # noqa: T201 - for whoever reads the log
    result = await world.asking.get(f"/executions/{execution_id}/result")
    assert (result["status"], result["stdout"]) == ("completed", "hello from a pod\n")
    assert result["resource_usage"]["source"] in ("cgroup", "wait4")
    await world.until_asleep(ASLEEP_SECONDS)


async def test_a_posted_cloudevent_reaches_its_result_from_zero(world: Installation) -> None:
    """Another system posts to the Knative Service of submit; its execution is like any other."""
    await world.until_asleep(ASLEEP_SECONDS)
    there = world.route("submit")
    headers = {
        **there.headers,
        "ce-specversion": "1.0",
        "ce-type": "execution.submit",
        "ce-source": POSTER,
        "ce-id": "from-zero",
        "content-type": "application/json",
    }
    body = json.dumps({"script": HELLO})

    async with httpx2.AsyncClient(timeout=60) as http:
        answers = [await http.post(there.url, headers=headers, content=body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204], [a.text for a in answers]
    execution_id = await world.posted(POSTER, HELLO, seconds=30)
    world.outputs[execution_id] = b"hello from a pod\n"
    stream = await world.follow(execution_id)
    assert "result_stored" in [frame.event_type for frame in stream.frames]


async def test_many_scale_out_and_back_to_zero(world: Installation) -> None:
    """A hundred at once: lag adds replicas, every result is stored, and then nothing is awake."""
    most: dict[str, int] = {}
    watching = asyncio.create_task(_watch_replicas(world, most))
    ids = [await world.submit(f"print({n})") for n in range(100)]
    world.outputs |= {one: f"{n}\n".encode() for n, one in enumerate(ids)}

    await world.until_status(ids, "completed", seconds=300)
    watching.cancel()

    print(f"most replicas: {most}")  # noqa: T201 - for whoever reads the log
    assert max(most.values()) > 1, most
    await world.until_asleep(ASLEEP_SECONDS)
    assert world.pods() == []
    assert world.configmaps() == []


async def _watch_replicas(world: Installation, most: dict[str, int]) -> None:
    async def look() -> bool:
        for slug, count in (await asyncio.to_thread(world.replicas)).items():
            most[slug] = max(most.get(slug, 0), count)
        return False

    await until(look, 400, "never: it is cancelled")
