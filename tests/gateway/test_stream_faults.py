"""A client sees each event once and in order, whatever becomes of nudges and connections."""

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from tests.gateway.browser import Browser, LiveStream
from tests.gateway.site import Site

EVENTS = 60


class Client:
    """A browser that connects again with its last id whenever the connection breaks."""

    def __init__(self, browser: Browser, execution_id: str, random: Random) -> None:
        self.browser = browser
        self.path = f"/api/v1/events/executions/{execution_id}"
        self.random = random
        self.seen: list[int] = []
        self.last_id = ""
        self.stream: LiveStream | None = None

    async def connect(self) -> None:
        """Open a stream where the last one broke off."""
        headers = {"last-event-id": self.last_id} if self.last_id else {}
        self.stream = await self.browser.stream(self.path, headers=headers)
        assert self.stream.status == 200

    async def read(self) -> bool:
        """Take in what has arrived; say whether the stream told its end."""
        assert self.stream is not None
        while self.stream.exchange.waiting():
            block = await self.stream.block()
            if block is None:
                return False
            if block.get("event") == "end":
                return True
            if "id" in block:
                self.last_id = block["id"]
                self.seen.append(int(block["id"]))
        return False

    async def maybe_lose_connection(self) -> None:
        """Break the connection now and then, and connect again."""
        assert self.stream is not None
        if self.random.random() < 0.1:
            await self.stream.leave()
            await self.connect()


async def nudged_badly(site: Site, random: Random, pending: list[dict[str, Any]]) -> None:
    """Lose, repeat and reorder what waits to be told."""
    random.shuffle(pending)
    while pending and random.random() < 0.7:
        event = pending.pop()
        for _ in range(random.choice((0, 1, 1, 2))):
            await site.nudge(event["seq"], event)


@pytest.mark.parametrize("seed", range(25))
async def test_each_event_comes_once_and_in_order(seed: int) -> None:
    """Nudges are lost, repeated and reordered, Redis is away for a while, connections break."""
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    site = await Site(stream_opens_per_minute=10_000).open()
    browser = await site.user()
    execution_id = await site.submit(browser)
    client = Client(browser, execution_id, random)
    await client.connect()
    pending: list[dict[str, Any]] = []
    for number in range(EVENTS):
        seq = await site.happened(
            execution_id, "execution.output", nudge=False, stream="stdout", offset=number, data="x"
        )
        pending += await site.ports.events.find({"execution_id": execution_id, "seq": seq})
        site.redis.connected = random.random() > 0.1
        if site.redis.connected:
            await nudged_badly(site, random, pending)
        await site.clock.advance(timedelta(seconds=random.choice((0, 0, 1, 7))))
        await client.read()
        await client.maybe_lose_connection()
    site.redis.connected = True
    await site.ended(execution_id, nudge=random.random() < 0.5)
    await site.clock.advance(timedelta(seconds=15))

    has_ended = await client.read()
    again = await browser.get(client.path, headers={"last-event-id": client.last_id})
    await site.close()

    assert client.seen == list(range(1, EVENTS + 2))
    assert has_ended
    assert again.status == 204
