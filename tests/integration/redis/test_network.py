"""A Redis across a network: passwords, certificates, and its ways to be away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from shared.adapters.redis.signals import RedisSignals
from shared.adapters.redis.subscription import RedisSubscription
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import StartupError, TemporaryError
from tests.integration.redis.own_server import OwnServer

pytestmark = pytest.mark.integration
PATIENT = timedelta(seconds=5)
SOON = timedelta(milliseconds=20)
MINUTE = timedelta(minutes=1)

Connect = Callable[..., RedisSignals]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return what connects to a URL, and closes in the end."""
    opened: list[RedisSignals] = []

    def connect(
        url: str, ca_file: Path | None = None, patience: timedelta | None = None
    ) -> RedisSignals:
        signals = RedisSignals.connect(url, clock=SystemClock(), ca_file=ca_file, patience=patience)
        opened.append(signals)
        return signals

    yield connect
    for signals in opened:
        await signals.close()


def plain_url(server: OwnServer) -> str:
    """Return the address with its password."""
    return server.addresses["INTEGR8S_REDIS_URL"]


def tls_url(server: OwnServer) -> str:
    """Return the address with TLS."""
    return server.addresses["INTEGR8S_REDIS_TLS_URL"]


def ca_of(server: OwnServer) -> Path:
    """Return the certificate of the authority that signed the server's."""
    return Path(server.addresses["INTEGR8S_REDIS_TLS_CA"])


def with_password(url: str, password: str) -> str:
    """Return an address with another password, or with none."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port}"
    return parts._replace(netloc=f":{password}@{place}" if password else place).geturl()


async def until_answered(signals: RedisSignals) -> None:
    """Wait until the server is there."""
    async with asyncio.timeout(PATIENT.total_seconds()):
        while True:
            try:
                return await signals.ping()
            except TemporaryError:
                await SystemClock().sleep(SOON)


async def next_of(subscription: RedisSubscription) -> tuple[str, bytes]:
    """Return the next message, which is due."""
    async with asyncio.timeout(PATIENT.total_seconds()):
        return await anext(aiter(subscription))


# --- starting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["wrong-secret", ""], ids=["wrong", "none"])
async def test_a_password_that_is_refused_ends_the_start(
    own_server: OwnServer, connect: Connect, password: str
) -> None:
    """Waiting heals nothing; the setting is named, the password is not."""
    with pytest.raises(StartupError, match="INTEGR8S_REDIS_URL") as caught:
        await connect(with_password(plain_url(own_server), password)).ping()

    assert "wrong-secret" not in str(caught.value)


async def test_a_certificate_of_nobody_known_ends_the_start(
    own_server: OwnServer, connect: Connect
) -> None:
    """Without the certificate of its authority nobody knows whose server that is."""
    with pytest.raises(StartupError, match="INTEGR8S_REDIS_CA_FILE"):
        await connect(tls_url(own_server)).ping()


async def test_a_certificate_of_another_host_ends_the_start(
    own_server: OwnServer, connect: Connect
) -> None:
    """A certificate that was signed by the right authority, for somebody else."""
    url = tls_url(own_server).replace("127.0.0.1", "127.0.0.2")

    with pytest.raises(StartupError, match="INTEGR8S_REDIS_CA_FILE"):
        await connect(url, ca_of(own_server)).ping()


async def test_tls_with_the_right_authority(own_server: OwnServer, connect: Connect) -> None:
    """Commands and subscriptions both are encrypted, and work."""
    signals = connect(tls_url(own_server), ca_of(own_server), PATIENT)
    await signals.ping()
    subscription = signals.subscribe()
    await subscription.add("c")

    await signals.publish("c", b"x")

    assert await next_of(subscription) == ("c", b"x")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_the_wrong_kind_of_listener_is_no_answer(
    own_server: OwnServer, connect: Connect, scheme: str
) -> None:
    """TLS where none is spoken, or none where it is: told as an engine that is away."""
    wrong = plain_url(own_server) if scheme == "rediss" else tls_url(own_server)
    url = urlsplit(wrong)._replace(scheme=scheme).geturl()

    with pytest.raises(TemporaryError):
        await connect(url, ca_of(own_server)).ping()


@pytest.mark.parametrize(
    "url",
    ["http://host", "redis://user:pa/ss-secret@host:6379", "redis://host:ss-secret"],
    ids=["another scheme", "a slash in the password", "no port"],
)
async def test_what_is_no_url_is_refused_at_once(url: str, connect: Connect) -> None:
    """With the form that it should have, and without what might be a password."""
    with pytest.raises(StartupError, match="INTEGR8S_REDIS_URL as redis://") as caught:
        connect(url)

    assert "secret" not in str(caught.value)


async def test_a_certificate_file_that_is_not_there(connect: Connect, tmp_path: Path) -> None:
    """Found out before the first connection."""
    with pytest.raises(StartupError, match="INTEGR8S_REDIS_CA_FILE"):
        connect("rediss://host", tmp_path / "missing.crt")


# --- later --------------------------------------------------------------------------------------


async def test_a_password_that_is_changed_later_is_waited_for(
    own_server: OwnServer, connect: Connect
) -> None:
    """Who served us before is away, not misconfigured: nobody ends for the sake of signals."""
    url = plain_url(own_server)
    signals = connect(url)
    await signals.ping()

    async with Redis.from_url(url) as administrator:
        await administrator.config_set("requirepass", "another")
        await administrator.client_kill_filter(_type="normal", skipme=True)

    with pytest.raises(TemporaryError):
        await signals.ping()
    with pytest.raises(TemporaryError):
        await signals.get("k")


@pytest.mark.parametrize("kind", ["password", "tls"])
async def test_everything_goes_on_after_a_restart(
    own_server: OwnServer, connect: Connect, kind: str
) -> None:
    """The same object serves commands and hears its channels again, logged in and encrypted."""
    url, ca_file = plain_url(own_server), None
    if kind == "tls":
        url, ca_file = tls_url(own_server), ca_of(own_server)
    signals = connect(url, ca_file, PATIENT)
    subscription = signals.subscribe()
    await subscription.add("before")

    await own_server.stop()
    with pytest.raises(TemporaryError):
        await signals.put("k", b"v", expires=MINUTE)
    adding = asyncio.create_task(subscription.add("meanwhile"))
    await own_server.start()
    await until_answered(signals)
    await adding
    await subscription.add("before")
    await signals.publish("before", b"x")
    await signals.publish("meanwhile", b"y")

    assert [await next_of(subscription), await next_of(subscription)] == [
        ("before", b"x"),
        ("meanwhile", b"y"),
    ]


async def test_a_server_that_hangs_is_given_up_on(own_server: OwnServer, connect: Connect) -> None:
    """With the patience of a network: a quarter of a second, whatever the server does."""
    signals = connect(plain_url(own_server))
    await signals.ping()
    loop = asyncio.get_running_loop()
    async with Redis.from_url(plain_url(own_server)) as administrator:
        await administrator.client_pause(3000)

        start = loop.time()
        with pytest.raises(TemporaryError):
            await signals.put("k", b"v", expires=MINUTE)
        took = loop.time() - start

        assert took < 2
