"""Knative Eventing hands events on as our manifests tell it to: Broker, Trigger, pulse.

The Broker for Kafka is no Go program and cannot be built here, so that of the manifest is given
another class, which follows the same rules about answers, retries and dead letters. It accepts an
event only when that has been delivered, or is a dead letter, where the one for Kafka does so once
it is stored. A KafkaSource is served by the same missing program: what the API server says of its
manifest is all we know.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import yaml

from shared.events.timers import timer
from tests.builders import TRACEPARENT
from tests.cluster.installation import Installation
from tests.cluster.installing import NAMESPACE
from tests.engines import paths
from tests.ledger import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

_MANIFEST = paths.ROOT / "knative" / "60-eventing.yaml"
_POSTER = "/tests/eventing"
_READY_SECONDS = 120
_ACCEPTED_SECONDS = 180
"""By the manifest six tries of the subscriber with 31 s of pauses between them, then as many of the
sink for dead letters; each may have to start."""
_PULSE_SECONDS = 120
"""The pulse comes once a minute here; what it wakes has to start."""


@pytest.fixture
def broker(world: Installation) -> Iterator[str]:
    """Return where events are posted to the Broker; all of the manifest is there and ready."""
    for document in _documents():
        world.kubectl.manifest(**document)
    names = [f"{one['kind']}/{one['metadata']['name']}".lower() for one in _documents()]
    world.kubectl(
        *("wait", *names, "-n", NAMESPACE, "--for=condition=Ready", f"--timeout={_READY_SECONDS}s"),
        seconds=_READY_SECONDS + 10,
    )
    address = world.kubectl(
        *("get", "service/broker-ingress", "-n", "knative-eventing"),
        *("-o", "jsonpath={.spec.clusterIP}"),
    )
    yield f"http://{address}/{NAMESPACE}/default"
    world.kubectl("delete", *names, "-n", NAMESPACE, "--ignore-not-found")


def _documents() -> list[dict[str, Any]]:
    """Return the manifest, with a Broker that can be had here and a pulse worth waiting for."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(_MANIFEST.read_text()))
    for document in documents:
        match document["kind"]:
            case "Broker":
                kind = {"eventing.knative.dev/broker.class": "MTChannelBasedBroker"}
                document["metadata"]["annotations"] = kind
                del document["spec"]["config"]
            case "PingSource":
                document["spec"]["schedule"] = "* * * * *"
    return documents


async def _post(url: str, event_id: str, body: str) -> int:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "execution.submit",
        "ce-source": _POSTER,
        "ce-id": event_id,
        "content-type": "application/json",
    }
    async with httpx2.AsyncClient(timeout=_ACCEPTED_SECONDS) as http:
        return (await http.post(url, headers=headers, content=body)).status_code


async def test_a_trigger_hands_submissions_to_submit(world: Installation, broker: str) -> None:
    """From zero, and once, however often the Broker delivers it."""
    script = "print('by a trigger')"
    assert await _post(broker, "by-a-trigger", json.dumps({"script": script})) == 202

    execution_id = await world.posted(_POSTER, script, seconds=60)
    world.outputs[execution_id] = b"by a trigger\n"
    stream = await world.follow(execution_id)
    assert "result_stored" in [frame.event_type for frame in stream.frames]


async def test_what_submit_refuses_is_kept_as_a_dead_letter(
    world: Installation, broker: str
) -> None:
    """It is not tried again and not lost: the sink is our own function."""
    assert await _post(broker, "poison", '["no", "request"]') == 202

    async def kept() -> bool:
        letters = await asyncio.to_thread(world.stored, "dead_letters")
        return any("poison" in str(letter) for letter in letters)

    await until(kept, 90, "the event is a dead letter")


async def test_a_pulse_fires_timers_where_keda_does_not(world: Installation, broker: str) -> None:
    """The safety net: fire-timers wakes although nobody counts what is due."""
    assert broker
    pause = "autoscaling.keda.sh/paused-replicas"
    annotate = ("annotate", "scaledobject", "fire-timers", "-n", NAMESPACE, "--overwrite")
    timer_id, document = timer(
        target="coordinate",
        kind="expire",
        key="nobody",
        due_at=now() - timedelta(seconds=1),
        correlation_id="pulse",
        traceparent=TRACEPARENT,
    )
    world.kubectl(*annotate, f"{pause}=0")
    try:
        await asyncio.to_thread(world.store, "timers", {"_id": timer_id, "version": 1, **document})

        async def fired() -> bool:
            return not await asyncio.to_thread(world.stored, "timers", _id=timer_id)

        await until(fired, _PULSE_SECONDS, "the pulse fired the timer")
        assert world.replicas()["fire-timers"] == 0
    finally:
        world.kubectl(*annotate, f"{pause}-")
