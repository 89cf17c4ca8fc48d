"""Live streams: what comes, in which order, and how they end."""

import zlib
from datetime import timedelta

import orjson
import pytest
from fakeredis.aioredis import FakeRedis

from gateway.services import Services
from gateway.streaming import Hub
from tests.gateway.browser import Browser, LiveStream
from tests.gateway.site import Site

SIX = {"event_type", "execution_id", "timestamp", "event_id", "status", "result"}
FAR = "019b76da-a800-7e1b-b06c-000000000000"


def path_of(execution_id: str, query: str = "") -> str:
    """Return the address of an execution's stream."""
    return f"/api/v1/events/executions/{execution_id}{query}"


def hub_of(site: Site) -> Hub:
    """Return the hub behind the application."""
    services: Services = site.app.state.services
    return services.hub


async def followed(site: Site, browser: Browser, execution_id: str, query: str = "") -> LiveStream:
    """Open a stream, read its status, and wait until it follows live."""
    stream = await browser.stream(path_of(execution_id, query))
    await stream.message()
    await settled(site)
    return stream


async def settled(site: Site) -> None:
    """Let every task do what it can do now; Redis answers in its own task."""
    for _ in range(5):
        await site.signals.ping()
        await site.clock.settle()


async def types_of(stream: LiveStream) -> list[str]:
    """Return the types of all messages up to the end."""
    return [message["event_type"] for message in await stream.rest()]


async def test_a_run_is_told_from_its_status_to_its_result(site: Site) -> None:
    """Every message has the six keys, ids count up, the result comes whole, then the end."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await browser.stream(path_of(execution_id))
    first = await stream.message()
    await settled(site)
    await site.happened(execution_id, "execution.requested", script="secret source")
    await site.happened(execution_id, "execution.queued", position=0)
    await site.happened(execution_id, "pod.created")
    await site.happened(execution_id, "execution.started")
    await site.happened(
        execution_id, "execution.output", stream="stdout", offset=0, data="hi\n", encoding="utf-8"
    )
    await site.happened(execution_id, "execution.completed", exit_code=0, stdout="hi\n")
    await site.ended(execution_id)

    messages = [first, *await stream.rest()]

    assert [(one["event_type"], one["_id"], one["status"]) for one in messages] == [
        ("status", None, "queued"),
        ("execution.requested", "1", "queued"),
        ("execution.queued", "2", "scheduled"),
        ("pod.created", "3", "launching"),
        ("execution.started", "4", "running"),
        ("execution.output", "5", None),
        ("execution.completed", "6", "completed"),
        ("result_stored", "7", "completed"),
        ("end", "7", "completed"),
    ]
    assert all(set(one) >= SIX for one in messages)
    assert [one["_name"] for one in messages] == [None] * 8 + ["end"]
    assert messages[5]["output"]["data"] == "hi\n"
    assert messages[7]["result"]["stdout"] == "hello\n"
    assert "secret source" not in str(messages)


async def test_the_head_of_a_stream_keeps_proxies_from_holding_it(site: Site) -> None:
    """Type, caching and buffering are said, and the reconnect hint comes first."""
    browser = await site.user()
    stream = await browser.stream(path_of(await site.submit(browser)))

    first = await stream.block()
    await stream.leave()

    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-store"
    assert stream.headers["x-accel-buffering"] == "no"
    assert first == {"retry": "2000"}


async def test_a_late_client_gets_everything(site: Site) -> None:
    """A stream opened after the end has the whole history, the result, and ends."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    for number in range(250):
        await site.happened(
            execution_id, "execution.output", stream="stdout", offset=number, data="x"
        )
    await site.ended(execution_id)

    stream = await browser.stream(path_of(execution_id))
    messages = await stream.rest()

    assert [one["_id"] for one in messages[1:-1]] == [str(n) for n in range(1, 252)]
    assert messages[-1]["event_type"] == "end"


async def test_a_second_client_sees_what_the_first_sees(site: Site) -> None:
    """Two streams of one run are equal."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    one = await followed(site, browser, execution_id)
    two = await followed(site, browser, execution_id)
    await site.happened(execution_id, "execution.started")
    await site.ended(execution_id)

    assert (
        await types_of(one) == await types_of(two) == ["execution.started", "result_stored", "end"]
    )


async def test_a_reconnect_goes_on_after_the_last_id(site: Site) -> None:
    """What was seen is not sent again, nothing between is lost."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    for name in ("execution.requested", "pod.created", "execution.started"):
        await site.happened(execution_id, name)
    headers = {"last-event-id": "2"}

    stream = await browser.stream(path_of(execution_id), headers=headers)
    await stream.message()
    third = await stream.message()
    await stream.leave()

    assert (third["event_type"], third["_id"]) == ("execution.started", "3")


@pytest.mark.parametrize("last_id", ["4", "99999", "9" * 400, "replaced:2", "end:2"])
async def test_a_reconnect_after_the_end_gets_204(site: Site, last_id: str) -> None:
    """204 ends the reconnecting of a browser."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.completed")
    await site.happened(execution_id, "pod.terminated")
    await site.ended(execution_id)
    await site.happened(execution_id, "saga.completed")

    answer = await browser.get(path_of(execution_id), headers={"last-event-id": last_id})
    by_query = await browser.get(path_of(execution_id, f"?last_event_id={last_id}"))

    assert (answer.status, by_query.status) == (204, 204)


@pytest.mark.parametrize("last_id", ["junk", "-1", "1.5", "", "0", "٣", "0x1", "1; DROP", "1" * 64])
async def test_an_absurd_last_id_neither_fails_nor_hangs(site: Site, last_id: str) -> None:
    """A running execution is followed to its end whatever the client claims to have seen."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.started")
    headers = {"last-event-id": last_id.encode().decode("latin-1")}
    stream = await browser.stream(path_of(execution_id), headers=headers)
    await stream.message()
    await settled(site)

    await site.ended(execution_id)

    assert (await types_of(stream))[-2:] == ["result_stored", "end"]


async def test_a_lost_nudge_is_found_by_the_next(site: Site) -> None:
    """A gap in the numbers sends the stream to the history, in order and without repeats."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)
    await site.happened(execution_id, "execution.requested")
    await site.happened(execution_id, "pod.created", nudge=False)
    await site.ended(execution_id)

    assert [one["_id"] for one in await stream.rest()] == ["1", "2", "3", "3"]


async def test_nudges_out_of_order_come_in_order(site: Site) -> None:
    """The number decides, not the arrival."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)
    for name in ("execution.requested", "pod.created", "execution.started"):
        await site.happened(execution_id, name, nudge=False)
    stored = await site.ports.events.find({"execution_id": execution_id}, sort=[("seq", 1)])
    for event in (stored[2], stored[0], stored[1], stored[1]):
        await site.nudge(event["seq"], event)
    await site.ended(execution_id)

    assert [one["_id"] for one in await stream.rest()] == ["1", "2", "3", "4", "4"]


async def test_a_silent_loss_is_found_by_the_poll(site: Site) -> None:
    """Without any nudge the history is read again after five seconds."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)

    await site.ended(execution_id, nudge=False)
    await site.clock.advance(timedelta(seconds=7))

    assert await types_of(stream) == ["result_stored", "end"]


async def test_streams_work_while_the_signals_are_away(site: Site) -> None:
    """Without Redis streams open, and the history is polled every second."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    site.redis.connected = False
    stream = await browser.stream(path_of(execution_id))
    await stream.message()
    await site.clock.advance(timedelta(seconds=7))

    await site.ended(execution_id, nudge=False)
    await site.clock.advance(timedelta(seconds=2))
    types = await types_of(stream)
    site.redis.connected = True

    assert types == ["result_stored", "end"]


async def test_a_wiped_redis_loses_nothing(site: Site) -> None:
    """Redis only ever held what may be lost."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)
    await FakeRedis(server=site.redis).flushall()

    await site.ended(execution_id)

    assert await types_of(stream) == ["result_stored", "end"]


@pytest.mark.parametrize("message", [b"", b"no json", b"[]", b'{"seq":"x"}', b'{"seq":1}', b"\xff"])
async def test_a_broken_nudge_is_only_a_reason_to_look(site: Site, message: bytes) -> None:
    """Whatever is published on the channel, the stream stays correct."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)

    await site.signals.publish(f"sse:exec:{execution_id}", message)
    await site.ended(execution_id)

    assert await types_of(stream) == ["result_stored", "end"]


async def test_a_result_without_history_is_built_from_the_store(site: Site) -> None:
    """An execution older than its history still ends with its whole result."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ports.executions.change(
        execution_id,
        set={"status": "failed", "stdout": b"kept\n", "finished_at": site.clock.now()},
    )
    await site.clock.advance(timedelta(minutes=10))

    stream = await browser.stream(path_of(execution_id))
    await stream.message()
    await site.clock.advance(timedelta(seconds=3))
    messages = await stream.rest()

    assert [one["event_type"] for one in messages] == ["result_stored", "end"]
    assert messages[0]["result"]["stdout"] == "kept\n"
    assert messages[1]["_id"] == "end:0"


async def test_a_change_that_only_the_store_knows_is_told(site: Site) -> None:
    """With the log away a stream shows status changes from the store."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)

    await site.ports.executions.change(execution_id, set={"status": "scheduled"})
    await site.clock.advance(timedelta(seconds=7))
    told = await stream.message()
    await stream.leave()

    assert (told["event_type"], told["status"], told["_id"]) == ("status", "scheduled", None)


async def test_the_place_in_the_queue_is_told_when_it_changed(site: Site) -> None:
    """Who waits hears of every step forward, and nothing where there was none."""
    browser = await site.user()
    first, second = await site.submit(browser), await site.submit(browser)
    await site.clock.advance(timedelta(milliseconds=5))
    third = await site.submit(browser)
    stream = await browser.stream(path_of(third))
    opened = await stream.message()
    await site.clock.advance(timedelta(seconds=12))
    await site.ports.executions.change(first, set={"status": "running"})
    await site.ports.executions.change(second, set={"status": "running"})
    await site.clock.advance(timedelta(seconds=7))

    moved = await stream.message()
    await stream.leave()

    assert (opened["position"], moved["position"]) == (3, 1)
    assert moved["event_type"] == "status"


async def test_include_chooses_what_comes(site: Site) -> None:
    """Sagas only on request; a stream without results still ends."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.started")
    await site.happened(execution_id, "saga.started")
    await site.happened(execution_id, "pod.deleted")
    await site.ended(execution_id)

    usual = await types_of(await browser.stream(path_of(execution_id)))
    sagas = await types_of(await browser.stream(path_of(execution_id, "?include=saga,pod")))

    assert usual == ["status", "execution.started", "pod.deleted", "result_stored", "end"]
    assert sagas == ["status", "saga.started", "pod.deleted", "end"]


async def test_an_unknown_part_is_refused_before_the_first_byte(site: Site) -> None:
    """422 names the parts that there are."""
    browser = await site.user()
    execution_id = await site.submit(browser)

    assert (await browser.get(path_of(execution_id, "?include=everything"))).status == 422


async def test_a_cancelled_run_ends_as_cancelled(site: Site) -> None:
    """From the wish on, whatever ends the run leads to cancelled."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.started")
    await site.happened(execution_id, "execution.cancel_requested")
    await site.happened(execution_id, "execution.failed", error_message="killed", phase="run")
    await site.ended(execution_id, status="cancelled")

    messages = await (await browser.stream(path_of(execution_id))).rest()

    assert [one["status"] for one in messages] == [
        "cancelled", "running", "running", "cancelled", "cancelled", "cancelled",
    ]  # fmt: skip
    assert messages[3]["error"] == "killed"


async def test_a_result_that_could_not_be_stored_ends_the_stream(site: Site) -> None:
    """The client hears why and is not left waiting."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "result_failed", error="too large")

    messages = await (await browser.stream(path_of(execution_id))).rest()

    assert [one["event_type"] for one in messages[1:]] == ["result_failed", "end"]
    assert messages[1]["error"] == "too large"


async def test_a_stream_is_refused_before_it_begins(site: Site) -> None:
    """Nobody, others and unknown ids get ordinary problems."""
    execution_id = await site.submit(await site.user("ada"))
    other = await site.user("bob")

    nobody = await site.browser().get(path_of(execution_id))
    foreign = await other.get(path_of(execution_id))
    unknown = await other.get(path_of(FAR))

    assert (nobody.status, foreign.status, unknown.status) == (401, 404, 404)
    assert nobody.header("content-type") == "application/problem+json"


async def test_the_eleventh_stream_replaces_the_first(site: Site) -> None:
    """The oldest is told, its id stops the browser, and the tabs do not evict one another."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    streams = [await followed(site, browser, execution_id) for _ in range(11)]

    (last,) = await streams[0].rest()
    again = await browser.get(path_of(execution_id), headers={"last-event-id": last["_id"]})

    assert (last["_name"], last["_id"], again.status) == ("replaced", "replaced:0", 204)
    assert hub_of(site).open_streams == 10
    assert streams[1].exchange.waiting() == 0


async def test_opening_too_often_has_to_wait_longer_and_longer(site: Site) -> None:
    """100 a minute; who insists is told to wait twice as long each time."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ended(execution_id)
    for _ in range(100):
        await (await browser.stream(path_of(execution_id))).rest()

    waits = [(await browser.get(path_of(execution_id))).header("retry-after") for _ in range(8)]
    await site.clock.advance(timedelta(seconds=61))
    later = await (await browser.stream(path_of(execution_id))).rest()

    assert waits == ["1", "2", "4", "8", "16", "32", "60", "60"]
    assert later[-1]["event_type"] == "end"


async def test_silence_is_broken_by_heartbeats(site: Site) -> None:
    """A comment within 31 seconds, and another one after as long."""
    browser = await site.user()
    stream = await followed(site, browser, await site.submit(browser))

    await site.clock.advance(timedelta(seconds=31))
    first = await stream.block()
    await site.clock.advance(timedelta(seconds=31))
    second = await stream.block()
    await stream.leave()

    assert first == second == {"": ""}


async def test_a_stream_ends_with_its_session(site: Site) -> None:
    """Signing out ends the streams of the session, with a name that says why."""
    browser = await site.user()
    stream = await followed(site, browser, await site.submit(browser))

    await browser.post("/api/v1/auth/logout")
    await settled(site)
    await site.clock.advance(timedelta(seconds=2))

    assert [one["_name"] for one in await stream.rest()] == ["expired"]


async def test_an_expired_session_ends_its_streams(site: Site) -> None:
    """A stream is looked at every minute, and does not outlive its session by more."""
    browser = await site.user()
    stream = await followed(site, browser, await site.submit(browser))

    await site.clock.advance(timedelta(minutes=62))

    assert [one["_name"] for one in await stream.rest()] == ["expired"]


async def test_a_slow_client_is_cut_and_holds_nobody_up(site: Site) -> None:
    """Its buffer is bounded, it is dropped after a second, and the others see everything."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    slow = await followed(site, browser, execution_id)
    quick = await followed(site, browser, execution_id)
    slow.exchange.can_write.clear()
    for number in range(150):
        await site.happened(
            execution_id, "execution.output", stream="stdout", offset=number, data="x"
        )
        await settled(site)
    buffered = max(len(stream.chunks) for stream in hub_of(site).streams())

    await site.clock.advance(timedelta(seconds=3))
    await site.ended(execution_id)
    seen = await quick.rest()
    slow.exchange.can_write.set()
    await slow.exchange.task

    assert buffered == 100
    assert [one["_id"] for one in seen] == [*(str(n) for n in range(1, 152)), "151"]
    assert hub_of(site).open_streams == 0


async def test_a_client_that_pauses_misses_nothing(site: Site) -> None:
    """A full buffer that drains in time is filled up from the history."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)
    stream.exchange.can_write.clear()
    for number in range(150):
        await site.happened(
            execution_id, "execution.output", stream="stdout", offset=number, data="x"
        )
    await settled(site)
    stream.exchange.can_write.set()
    await site.ended(execution_id)

    assert [one["_id"] for one in await stream.rest()] == [*(str(n) for n in range(1, 152)), "151"]


async def test_a_client_that_leaves_is_forgotten(site: Site) -> None:
    """Nothing is kept for a closed tab, and its channel is left."""
    browser = await site.user()
    stream = await followed(site, browser, await site.submit(browser))

    await stream.leave()
    await site.clock.advance(timedelta(seconds=2))

    assert hub_of(site).open_streams == 0
    assert hub_of(site).feeds == {}


async def test_draining_tells_everybody_and_ends(site: Site) -> None:
    """Clients get a named notice at once, then their end; nobody is let in any more."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)

    task = stream.exchange.task.get_loop().create_task(hub_of(site).drain())
    await site.clock.advance(timedelta(seconds=6))
    await task
    refused = await browser.get(path_of(execution_id))

    assert [one["_name"] for one in await stream.rest()] == ["shutdown"]
    assert refused.status == 503


async def test_a_long_stream_is_asked_to_connect_again() -> None:
    """Before a proxy would cut it; whoever does loses nothing."""
    site = await Site(stream_longest=timedelta(seconds=100)).open()
    browser = await site.user()
    execution_id = await site.submit(browser)
    stream = await followed(site, browser, execution_id)
    await site.happened(execution_id, "execution.started")
    await settled(site)

    await site.clock.advance(timedelta(seconds=94))
    still_open = hub_of(site).open_streams
    await site.clock.advance(timedelta(seconds=7))
    told = [(one["event_type"], one["_id"], one["_name"]) for one in await stream.rest()]
    await site.ended(execution_id)
    again = await types_of(await browser.stream(path_of(execution_id, "?last_event_id=1")))
    await site.close()

    assert still_open == 1
    assert told == [("execution.started", "1", None), ("shutdown", None, "shutdown")]
    assert again == ["status", "result_stored", "end"]


async def test_streams_that_came_together_do_not_all_come_back_together() -> None:
    """Each ends at a time of its own, none after the longest."""
    site = await Site(stream_longest=timedelta(seconds=1000)).open()
    browser = await site.user()
    execution_id = await site.submit(browser)
    streams = [await followed(site, browser, execution_id) for _ in range(8)]

    left: list[int] = []
    for _ in range(10):
        await site.clock.advance(timedelta(seconds=5 if left else 951))
        left.append(hub_of(site).open_streams)
    await site.clock.advance(timedelta(seconds=5))
    names = {one["_name"] for stream in streams for one in await stream.rest()}
    await site.close()

    assert len(set(left)) >= 6
    assert left == sorted(left, reverse=True)
    assert names == {"shutdown"}


async def test_a_stream_may_be_open_as_long_as_it_likes(site: Site) -> None:
    """Unless the installation says otherwise, only its session ends it."""
    browser = await site.key(await site.user(), "read", "execute")
    await followed(site, browser, await site.submit(browser))

    await site.clock.advance(timedelta(minutes=20))

    assert hub_of(site).open_streams == 1


async def test_a_compressed_stream_is_flushed_for_each_event(site: Site) -> None:
    """Every message can be read as soon as it was sent, and it is a sound gzip file at the end."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    exchange = browser.exchange(
        "GET", path_of(execution_id), headers={"accept-encoding": "br, gzip"}
    )
    start = await exchange.next()
    unpack = zlib.decompressobj(wbits=31)
    begun = unpack.decompress((await exchange.next())["body"])
    await settled(site)

    await site.happened(execution_id, "execution.started")
    live = unpack.decompress((await exchange.next())["body"])
    await site.ended(execution_id)
    rest = b""
    while (message := await exchange.next())["type"] != "closed":
        rest += unpack.decompress(message["body"])

    assert (b"content-encoding", b"gzip") in start["headers"]
    assert begun.startswith(b"retry: 2000\n\ndata: ")
    assert orjson.loads(live.split(b"data: ")[1])["event_type"] == "execution.started"
    assert rest.endswith(b"\n\n")
    assert unpack.eof


async def test_underscores_for_clients_that_want_them() -> None:
    """The compatibility switch spells types in the old way."""
    site = await Site(compat_underscore_types=True).open()
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.started")
    await site.ended(execution_id)

    types = await types_of(await browser.stream(path_of(execution_id)))
    await site.close()

    assert types == ["status", "execution_started", "result_stored", "end"]


async def ticket_of(browser: Browser, execution_id: str) -> str:
    """Return a fresh ticket."""
    body = {"kind": "execution", "resource_id": execution_id}
    answer = await browser.post("/api/v1/events/ticket", json=body)
    assert answer.status == 200, answer.body
    ticket: str = answer.json["ticket"]
    return ticket


async def test_a_ticket_opens_one_stream_once(site: Site) -> None:
    """Without a cookie, for this execution only, one time."""
    browser = await site.user()
    execution_id, other = await site.submit(browser), await site.submit(browser)
    await site.ended(execution_id)
    first, second = [await ticket_of(browser, execution_id) for _ in range(2)]
    stranger = site.browser()

    opened = await stranger.stream(path_of(execution_id, f"?token={first}"))
    types = await types_of(opened)
    again = await stranger.get(path_of(execution_id, f"?token={first}"))
    elsewhere = await stranger.get(path_of(other, f"?token={second}"))

    assert types == ["status", "result_stored", "end"]
    assert (again.status, elsewhere.status) == (401, 401)


async def test_a_ticket_dies_with_its_minute_and_its_session(site: Site) -> None:
    """It is bound to the session that asked for it."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    late = await ticket_of(browser, execution_id)
    await site.clock.advance(timedelta(seconds=61))
    orphan = await ticket_of(browser, execution_id)
    await browser.post("/api/v1/auth/logout")

    answers = [
        await site.browser().get(path_of(execution_id, f"?token={t}")) for t in (late, orphan)
    ]

    assert [answer.status for answer in answers] == [401, 401]


async def test_no_ticket_for_what_belongs_to_others(site: Site) -> None:
    """A ticket is asked for by somebody who may see the execution."""
    execution_id = await site.submit(await site.user("ada"))
    body = {"kind": "execution", "resource_id": execution_id}

    answer = await (await site.user("bob")).post("/api/v1/events/ticket", json=body)

    assert answer.status == 404


async def test_a_session_token_in_the_address_is_refused_and_noted(site: Site) -> None:
    """Addresses end up in logs; the session token has no place there."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    token = browser.cookies["access_token"]

    answer = await site.browser().get(path_of(execution_id, f"?token={token}"))

    assert answer.status == 401
    (event,) = [e for e in site.publisher.events if e.type == "security.token_in_query"]
    assert token not in repr(event)


async def test_a_key_may_follow(site: Site) -> None:
    """A program with the scope read follows with its key."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.ended(execution_id)
    robot = await site.key(browser, "read")

    assert (await types_of(await robot.stream(path_of(execution_id))))[-1] == "end"


async def test_a_reconnect_at_the_end_of_the_history_follows_live(site: Site) -> None:
    """Nothing has to be read again where nothing was missed."""
    browser = await site.user()
    execution_id = await site.submit(browser)
    await site.happened(execution_id, "execution.started")
    stream = await browser.stream(path_of(execution_id), headers={"last-event-id": "1"})
    await stream.message()
    await settled(site)

    await site.ended(execution_id)

    assert [one["_id"] for one in await stream.rest()] == ["2", "2"]
