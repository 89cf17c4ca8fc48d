"""What the answers of an API server mean for whoever asked."""

import asyncio
from datetime import timedelta

import httpx2
import pytest

from shared.domain.errors import PermanentError, TemporaryError
from tests.unit.adapters.kubernetes.servers import PODS, FakeServer, Fault, api, refusal
from tests.virtual_time import EPOCH, run_virtually

WANTED = {"metadata": {"name": "one"}}


def make(server: FakeServer) -> object:
    """Make one pod."""
    return run_virtually(api(server).make(PODS, WANTED))


@pytest.mark.parametrize(
    "answer",
    [
        refusal(403, "Forbidden", 'pods "one" is forbidden: exceeded quota: pods'),
        refusal(403, "Forbidden", "User cannot create resource"),
        refusal(401, "Unauthorized"),
        refusal(404, "NotFound", 'namespaces "scripts" not found'),
        refusal(409, "Conflict", "the object has been modified"),
        refusal(429, "TooManyRequests"),
        refusal(500, "InternalError"),
        refusal(503, "ServiceUnavailable"),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("silent"),
        httpx2.RemoteProtocolError("closed"),
    ],
    ids=repr,
)
def test_what_may_be_otherwise_later_is_temporary(answer: httpx2.Response | Exception) -> None:
    """A quota, a missing right, a server that is away: all of them can be mended meanwhile."""
    with pytest.raises(TemporaryError):
        make(FakeServer(faults=[Fault("POST", PODS, answer)]))


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "BadRequest"),
        refusal(422, "Invalid", 'Pod "one" is invalid: spec.priorityClassName'),
        refusal(413, "RequestEntityTooLarge"),
        refusal(403, "Forbidden", 'pods "one" is forbidden: violates PodSecurity "restricted"'),
    ],
    ids=repr,
)
def test_what_is_wrong_with_the_object_is_permanent(answer: httpx2.Response) -> None:
    """The same one is refused again."""
    with pytest.raises(PermanentError):
        make(FakeServer(faults=[Fault("POST", PODS, answer)]))


def test_server_says_when_to_come_back() -> None:
    """As long as it wants to be left alone."""
    fault = Fault("POST", PODS, refusal(429, "TooManyRequests", retry_after="7"))

    with pytest.raises(TemporaryError) as caught:
        make(FakeServer(faults=[fault]))

    assert caught.value.retry_after == timedelta(seconds=7)


def test_answer_that_is_no_object_is_told_as_it_is() -> None:
    """A proxy in front may have words of its own."""
    fault = Fault("POST", PODS, httpx2.Response(502, text="<html>bad gateway</html>"))

    with pytest.raises(TemporaryError, match="bad gateway"):
        make(FakeServer(faults=[fault]))


def test_what_exists_is_no_error() -> None:
    """Whoever comes second has nothing to do."""
    server = FakeServer()

    assert make(server) is not None
    assert make(server) is None


def test_what_is_missing_is_none() -> None:
    """To read, to change and to remove."""

    async def ask() -> None:
        asked = api(FakeServer())
        assert await asked.get(f"{PODS}/x") is None
        assert await asked.patch(f"{PODS}/x", {}) is None
        await asked.remove(f"{PODS}/x")
        await asked.close()

    run_virtually(ask())


def test_long_list_comes_in_pages() -> None:
    """All of them, whatever the server takes for long."""
    server = FakeServer()

    async def ask() -> list[str]:
        asked = api(server)
        for number in range(1203):
            server.put(f"{PODS}/{number}", {"metadata": {"name": str(number)}})
        from shared.adapters.kubernetes import objects  # noqa: PLC0415

        found = await asked.all(PODS, objects.SELECTOR)
        return [one["metadata"]["name"] for one in found]

    assert run_virtually(ask()) == [str(number) for number in range(1203)]
    assert server.told == ["GET /pods"] * 3


def test_server_s_clock_is_noted() -> None:
    """Ages are reckoned with it alone."""

    async def ask() -> object:
        asked = api(FakeServer())
        await asyncio.gather(asked.get(f"{PODS}/x"))
        return asked.answered_at

    assert run_virtually(ask()) == EPOCH
