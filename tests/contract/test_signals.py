"""What every Signals promises: in process, on our own redis-server, and on a given one.

The last is reached with a password, and once more with TLS; keys and channels are fresh in every
test, so it need not be empty.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis

from shared.adapters.redis.server import BundledRedis, find_redis_server
from shared.adapters.redis.signals import RedisSignals
from shared.adapters.redis.subscription import RedisSubscription
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.domain.errors import TemporaryError

PATIENT = timedelta(seconds=5)
"""Machines under load answer late; how late is nobody's promise here."""
MINUTE = timedelta(minutes=1)
BRIEF = timedelta(milliseconds=30)

needs_server = pytest.mark.skipif(find_redis_server() is None, reason="there is no redis-server")

Connect = Callable[[], RedisSignals]


def _variable(name: str) -> str:
    """Return an address that the environment names; a test that needs it fails without."""
    value = os.environ.get(name, "")  # noqa: TID251 - where the engine is
    if not value:
        pytest.fail(f"{name} is not set: ./taskw engines start redis")
    return value


def _given(engine: str) -> str:
    """Return the URL of an engine that somebody else runs."""
    urls = {"url": "INTEGR8S_REDIS_URL", "tls": "INTEGR8S_REDIS_TLS_URL"}
    return _variable(urls[engine]) if engine in urls else ""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BundledRedis]:
    """Return a redis-server of our own, started."""
    server = BundledRedis(tmp_path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(
    params=[
        "fakeredis",
        pytest.param("bundled", marks=needs_server),
        pytest.param("url", marks=pytest.mark.integration),
        pytest.param("tls", marks=pytest.mark.integration),
    ]
)
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connect]:
    """Return what connects one more process to the engine."""
    server = BundledRedis(tmp_path) if request.param == "bundled" else None
    address = await server.start() if server is not None else _given(request.param)
    ca_file = Path(_variable("INTEGR8S_REDIS_TLS_CA")) if request.param == "tls" else None
    fake = FakeServer()
    opened: list[RedisSignals] = []

    def connect() -> RedisSignals:
        clock = SystemClock()
        if request.param == "fakeredis":
            signals = RedisSignals(FakeRedis(server=fake), clock=clock, patience=PATIENT)
        else:
            signals = RedisSignals.connect(address, clock=clock, patience=PATIENT, ca_file=ca_file)
        opened.append(signals)
        return signals

    yield connect
    for signals in opened:
        await signals.close()
    if server is not None:
        await server.stop()


@pytest.fixture
def signals(connect: Connect) -> RedisSignals:
    """Return one process's signals."""
    return connect()


@pytest.fixture
def name() -> str:
    """Return a key, or channel, that nobody else uses."""
    return f"test:{SystemIds().new()}"


async def next_of(subscription: RedisSubscription) -> tuple[str, bytes]:
    """Return the next message, which is due."""
    async with asyncio.timeout(PATIENT.total_seconds()):
        return await anext(aiter(subscription))


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so. Expiry is the engine's own time, which no clock of ours can advance."""
    async with asyncio.timeout(PATIENT.total_seconds()):
        while not await check():
            await SystemClock().sleep(timedelta(milliseconds=2))


class TestPublishing:
    """Messages to whoever listens."""

    async def test_message_arrives(self, connect: Connect, name: str) -> None:
        """What is said once `add` has returned is heard, from another process, byte for byte."""
        subscription = connect().subscribe()
        await subscription.add(name)

        await connect().publish(name, b"\x00\xff")

        assert await next_of(subscription) == (name, b"\x00\xff")

    async def test_nobody_listens(self, signals: RedisSignals, name: str) -> None:
        """Saying something to nobody is no error."""
        await signals.publish(name, b"x")

    async def test_earlier_message_is_not_heard(self, signals: RedisSignals, name: str) -> None:
        """Nothing is kept for those who come later."""
        subscription = signals.subscribe()
        await signals.publish(name, b"early")
        await subscription.add(name)

        await signals.publish(name, b"late")

        assert await next_of(subscription) == (name, b"late")

    async def test_order(self, signals: RedisSignals, name: str) -> None:
        """Messages of one channel come in the order in which they were said."""
        subscription = signals.subscribe()
        await subscription.add(name)

        for number in range(50):
            await signals.publish(name, b"%d" % number)

        heard = [await next_of(subscription) for _ in range(50)]
        assert heard == [(name, b"%d" % number) for number in range(50)]

    async def test_everybody_hears(self, connect: Connect, name: str) -> None:
        """A message goes to each subscription, not to one of them."""
        first, second = connect().subscribe(), connect().subscribe()
        await first.add(name)
        await second.add(name)

        await connect().publish(name, b"x")

        assert await next_of(first) == await next_of(second) == (name, b"x")

    async def test_many_channels(self, signals: RedisSignals, name: str) -> None:
        """One subscription listens to many channels, added at once, and says which it was."""
        subscription = signals.subscribe()
        channels = [f"{name}:{number}" for number in range(20)]
        await asyncio.gather(*map(subscription.add, channels))

        for channel in channels:
            await signals.publish(channel, b"x")

        assert [await next_of(subscription) for _ in channels] == [(c, b"x") for c in channels]

    async def test_other_channels_are_not_heard(self, signals: RedisSignals, name: str) -> None:
        """Only what was asked for arrives."""
        subscription = signals.subscribe()
        await subscription.add(name)

        await signals.publish(f"{name}:other", b"x")
        await signals.publish(name, b"y")

        assert await next_of(subscription) == (name, b"y")

    async def test_removed_channel_is_not_heard(self, signals: RedisSignals, name: str) -> None:
        """A channel that was removed is quiet, the others are not."""
        subscription = signals.subscribe()
        await subscription.add(name)
        await subscription.add(f"{name}:kept")

        await subscription.remove(name)
        await subscription.add(f"{name}:later")  # its confirmation follows that of the removal
        await signals.publish(name, b"x")
        await signals.publish(f"{name}:kept", b"y")

        assert await next_of(subscription) == (f"{name}:kept", b"y")

    async def test_removed_channel_can_be_added_again(
        self, signals: RedisSignals, name: str
    ) -> None:
        """At once, while the removal is still on its way."""
        subscription = signals.subscribe()
        await subscription.add(name)
        await subscription.remove(name)

        await subscription.add(name)
        await signals.publish(name, b"x")

        assert await next_of(subscription) == (name, b"x")

    async def test_channel_added_twice_is_heard_once(
        self, signals: RedisSignals, name: str
    ) -> None:
        """Channels are a set."""
        subscription = signals.subscribe()
        await subscription.add(name)
        await subscription.add(name)

        await signals.publish(name, b"x")
        await signals.publish(name, b"y")

        assert [await next_of(subscription) for _ in "xy"] == [(name, b"x"), (name, b"y")]

    async def test_removing_what_was_never_added(self, signals: RedisSignals, name: str) -> None:
        """It is not listened to, so that is success."""
        subscription = signals.subscribe()

        await subscription.remove(name)

    async def test_name_with_any_letters(self, signals: RedisSignals, name: str) -> None:
        """Channels are text."""
        subscription = signals.subscribe()
        await subscription.add(f"{name}:grün")

        await signals.publish(f"{name}:grün", b"x")

        assert await next_of(subscription) == (f"{name}:grün", b"x")

    async def test_close_ends_the_iteration(self, signals: RedisSignals, name: str) -> None:
        """A loop over a subscription ends by itself."""
        subscription = signals.subscribe()
        await subscription.add(name)

        async def listen() -> list[tuple[str, bytes]]:
            return [message async for message in subscription]

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)  # noqa: TID251 - lets it begin
        await subscription.close()

        assert await listening == []

    async def test_closed_subscription_takes_no_channel(
        self, signals: RedisSignals, name: str
    ) -> None:
        """It would never hear anything."""
        subscription = signals.subscribe()
        await subscription.close()

        with pytest.raises(TemporaryError, match="closed"):
            await subscription.add(name)


class TestCounting:
    """Counters that expire."""

    async def test_counts_up(self, signals: RedisSignals, name: str) -> None:
        """The first is one."""
        assert [await signals.increment(name, expires=MINUTE) for _ in range(3)] == [1, 2, 3]

    async def test_racing_callers_get_different_counts(self, connect: Connect, name: str) -> None:
        """Nobody is counted twice or lost."""
        many = [connect() for _ in range(4)]

        counts = await asyncio.gather(
            *(each.increment(name, expires=MINUTE) for each in many for _ in range(5))
        )

        assert sorted(counts) == list(range(1, 21))

    async def test_expiry_runs_from_the_first(self, signals: RedisSignals, name: str) -> None:
        """Counting on does not put the expiry off: it starts again at one while being counted."""
        await signals.increment(name, expires=BRIEF)

        async def is_new() -> bool:
            return await signals.increment(name, expires=BRIEF) == 1

        await until(is_new)


class TestValues:
    """Values that expire."""

    async def test_missing_value(self, signals: RedisSignals, name: str) -> None:
        """None, not an error."""
        assert await signals.get(name) is None

    async def test_put_and_get(self, connect: Connect, name: str) -> None:
        """Another process reads what one wrote, byte for byte."""
        await connect().put(name, b"\x00\xff", expires=MINUTE)

        assert await connect().get(name) == b"\x00\xff"

    async def test_put_replaces(self, signals: RedisSignals, name: str) -> None:
        """The last one counts."""
        await signals.put(name, b"first", expires=MINUTE)

        await signals.put(name, b"second", expires=MINUTE)

        assert await signals.get(name) == b"second"

    async def test_value_expires(self, signals: RedisSignals, name: str) -> None:
        """It is gone by itself."""
        await signals.put(name, b"x", expires=BRIEF)

        async def is_gone() -> bool:
            return await signals.get(name) is None

        await until(is_gone)

    async def test_set_if_absent(self, signals: RedisSignals, name: str) -> None:
        """The first one sets it, the second one does not."""
        assert await signals.set_if_absent(name, b"first", expires=MINUTE)

        assert not await signals.set_if_absent(name, b"second", expires=MINUTE)

        assert await signals.get(name) == b"first"

    async def test_racing_setters(self, connect: Connect, name: str) -> None:
        """Exactly one of them sets it."""
        many = [connect() for _ in range(8)]

        answers = await asyncio.gather(
            *(each.set_if_absent(name, b"x", expires=MINUTE) for each in many)
        )

        assert answers.count(True) == 1

    async def test_set_if_absent_after_expiry(self, signals: RedisSignals, name: str) -> None:
        """Trying does not put the expiry off."""
        await signals.set_if_absent(name, b"x", expires=BRIEF)

        async def is_set_again() -> bool:
            return await signals.set_if_absent(name, b"y", expires=BRIEF)

        await until(is_set_again)

    async def test_take(self, signals: RedisSignals, name: str) -> None:
        """Taken is gone."""
        await signals.put(name, b"x", expires=MINUTE)

        assert await signals.take(name) == b"x"

        assert await signals.take(name) is None

    async def test_racing_takers(self, connect: Connect, name: str) -> None:
        """Exactly one of them gets it: a ticket lets one in."""
        many = [connect() for _ in range(8)]
        await many[0].put(name, b"x", expires=MINUTE)

        taken = await asyncio.gather(*(each.take(name) for each in many))

        assert sorted(taken, key=bool) == [None] * 7 + [b"x"]

    async def test_delete(self, signals: RedisSignals, name: str) -> None:
        """Deleted is gone, and a missing one is success."""
        await signals.put(name, b"x", expires=MINUTE)

        await signals.delete(name)
        await signals.delete(name)

        assert await signals.get(name) is None

    async def test_ping(self, signals: RedisSignals) -> None:
        """The engine answers."""
        await signals.ping()


CALLS: dict[str, Callable[[RedisSignals], Awaitable[object]]] = {
    "publish": lambda signals: signals.publish("c", b"x"),
    "increment": lambda signals: signals.increment("k", expires=MINUTE),
    "set_if_absent": lambda signals: signals.set_if_absent("k", b"x", expires=MINUTE),
    "put": lambda signals: signals.put("k", b"x", expires=MINUTE),
    "get": lambda signals: signals.get("k"),
    "take": lambda signals: signals.take("k"),
    "delete": lambda signals: signals.delete("k"),
    "ping": lambda signals: signals.ping(),
    "add": lambda signals: signals.subscribe().add("c"),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class TestAway:
    """An engine that does not answer, or comes back."""

    @every_call
    async def test_no_engine(
        self, tmp_path: Path, call: Callable[[RedisSignals], Awaitable[object]]
    ) -> None:
        """Every method says that it may succeed later."""
        signals = RedisSignals.connect(tmp_path / "nobody.sock", clock=SystemClock())

        with pytest.raises(TemporaryError):
            await call(signals)
        await signals.close()

    @every_call
    async def test_silent_engine(
        self, tmp_path: Path, call: Callable[[RedisSignals], Awaitable[object]]
    ) -> None:
        """An engine that takes the connection and says nothing is given up on."""
        released = asyncio.Event()

        async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            writer.close()

        listener = await asyncio.start_unix_server(say_nothing, tmp_path / "silent.sock")
        signals = RedisSignals.connect(
            tmp_path / "silent.sock", clock=SystemClock(), patience=timedelta(milliseconds=20)
        )

        with pytest.raises(TemporaryError):
            await call(signals)

        released.set()
        await signals.close()
        listener.close()
        await listener.wait_closed()

    @needs_server
    async def test_commands_work_again_after_a_restart(self, server: BundledRedis) -> None:
        """Connections that died meanwhile are replaced without a failure in between."""
        signals = RedisSignals.connect(server.socket, clock=SystemClock(), patience=PATIENT)
        await asyncio.gather(*(signals.ping() for _ in range(8)))

        await server.stop()
        await server.start()

        await asyncio.gather(*(signals.ping() for _ in range(8)))
        await signals.close()

    @needs_server
    async def test_subscription_survives_a_restart(self, server: BundledRedis, name: str) -> None:
        """All channels are listened to again, and those asked for meanwhile too."""
        signals = RedisSignals.connect(server.socket, clock=SystemClock(), patience=PATIENT)
        subscription = signals.subscribe()
        await subscription.add(f"{name}:before")

        await server.stop()
        adding = asyncio.create_task(subscription.add(f"{name}:meanwhile"))
        await server.start()
        await adding
        await subscription.add(f"{name}:before")
        await signals.publish(f"{name}:before", b"x")
        await signals.publish(f"{name}:meanwhile", b"y")

        heard = [await next_of(subscription), await next_of(subscription)]
        assert heard == [(f"{name}:before", b"x"), (f"{name}:meanwhile", b"y")]
        await signals.close()

    @needs_server
    async def test_channel_that_could_not_be_added_is_heard_later(
        self, server: BundledRedis, name: str
    ) -> None:
        """The failure says that nothing is heard now; once the engine is back, it is."""
        signals = RedisSignals.connect(
            server.socket, clock=SystemClock(), patience=timedelta(milliseconds=50)
        )
        subscription = signals.subscribe()
        await server.stop()
        with pytest.raises(TemporaryError):
            await subscription.add(name)

        await server.start()

        async def is_heard() -> bool:
            await signals.publish(name, b"x")
            return bool(subscription._messages)

        await until(is_heard)
        await signals.close()
