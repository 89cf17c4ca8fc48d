"""No script is started before it is proven that it reaches nothing."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.runtime.isolation import IsolationProof
from tests.builders import World


class Canary:
    """Reaches what a test lets it reach."""

    def __init__(self, *reached: str, error: Exception | None = None) -> None:
        self.reached, self.error = reached, error
        self.flights = 0

    async def __call__(self) -> Sequence[str]:
        """Fly once."""
        self.flights += 1
        if self.error is not None:
            raise self.error
        return self.reached


def proof(
    world: World, canary: Canary, *, under: str = "scripts", accept: bool = False
) -> IsolationProof:
    """Return what one process would do."""
    return IsolationProof(
        canary,
        under=under,
        proofs=world.documents("system_settings"),
        clock=world.clock,
        accept_no_policy=accept,
    )


async def test_a_canary_that_reached_nothing_counts_for_an_hour(world: World) -> None:
    """For every process: a start from zero does not wait for a pod each time."""
    canary = Canary()

    await proof(world, canary).bring()
    await world.clock.advance(timedelta(minutes=59))
    await proof(world, canary).bring()
    assert canary.flights == 1
    await world.clock.advance(timedelta(minutes=2))
    await proof(world, canary).bring()
    await proof(world, canary).bring()

    assert canary.flights == 2


async def test_a_canary_that_got_out_stops_the_start(world: World) -> None:
    """The sentence says what it reached, the remedy what to apply."""
    started = proof(world, Canary("dns_1", "api_server"))

    with pytest.raises(StartupError, match="api_server, dns_1") as refused:
        await started.bring()

    assert "knative/20-policies.yaml" in refused.value.remedy
    assert started.is_pending


async def test_a_mended_policy_counts_at_once(world: World) -> None:
    """A bad end is not remembered against whoever mended it."""
    with pytest.raises(StartupError):
        await proof(world, Canary("outside")).bring()

    await proof(world, Canary()).bring()

    with_old_proof = Canary("outside")
    await proof(world, with_old_proof).bring()
    assert with_old_proof.flights == 0


async def test_an_accepted_escape_is_told_at_each_start(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """And no pod is made for it again within the hour."""
    canary = Canary("outside")

    for _ in range(2):
        await proof(world, canary, accept=True).bring()

    assert canary.flights == 1
    assert [line for line in caplog.messages if "NOT cut off" in line and "outside" in line] == (
        caplog.messages
    )
    assert len(caplog.messages) == 2


async def test_who_accepts_no_more_flies_again(world: World) -> None:
    """What was accepted once proves nothing."""
    await proof(world, Canary("outside"), accept=True).bring()

    with pytest.raises(StartupError):
        await proof(world, Canary("outside")).bring()


async def test_a_proof_holds_under_its_conditions_only(world: World) -> None:
    """Scripts without sockets say nothing about scripts that have them."""
    await proof(world, Canary(), under="scripts:local").bring()
    canary = Canary("outside")

    with pytest.raises(StartupError):
        await proof(world, canary, under="scripts:any").bring()


async def test_a_canary_that_may_not_be_sent_is_one_sentence(world: World) -> None:
    """As where the namespace refuses a pod like those of scripts."""
    refused = Canary(error=PermanentError("403 Forbidden: violates PodSecurity."))

    with pytest.raises(StartupError, match="cannot be tested: 403 Forbidden") as failed:
        await proof(world, refused).bring()

    assert "knative/00-namespace.yaml" in failed.value.remedy


async def test_scripts_wait_for_a_canary_that_is_under_way(world: World) -> None:
    """An API server that is away is waited for, and nothing is remembered."""
    canary = Canary(error=TemporaryError("no answer"))
    started = proof(world, canary)

    with pytest.raises(TemporaryError):
        await started.bring()
    assert started.is_pending
    canary.error = None
    await started.bring()

    assert not started.is_pending
