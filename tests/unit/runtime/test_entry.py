"""What a function's process waits for before it takes any work."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.domain.errors import StartupError, TemporaryError
from shared.runtime.__main__ import _ready, main
from shared.runtime.wiring.engines import Engines
from tests.virtual_time import LoopClock, run_virtually


class FakeEngines:
    """Engines that answer, and a proof that does what a test wants."""

    def __init__(self, *proofs: Callable[[], Any]) -> None:
        self.ports = SimpleNamespace(clock=LoopClock())
        self.waits = 0
        self._proofs = list(proofs)

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Answer."""
        self.waits += 1
        return not leaving.is_set()

    async def prove_isolation(self) -> None:
        """Do what comes next."""
        await self._proofs.pop(0)()


async def holds() -> None:
    """Prove it."""


async def is_away() -> None:
    """Find no engine to prove it by."""
    raise TemporaryError("No answer to POST /pods.")


async def takes_long() -> None:
    """Wait for a canary."""
    await LoopClock().sleep(timedelta(minutes=1))


async def gets_out() -> None:
    """Prove the contrary."""
    raise StartupError("A pod reached dns.", remedy="Apply a policy.")


def ready(engines: FakeEngines, asked: asyncio.Event, *, prove: bool = True) -> Any:
    """Return the wait of a process."""
    return _ready(cast("Engines", engines), asked, prove=prove)


def test_only_who_starts_scripts_waits_for_the_proof() -> None:
    """A function that wakes should take a second."""

    async def test() -> None:
        assert await ready(FakeEngines(), asyncio.Event(), prove=False)
        assert await ready(FakeEngines(holds), asyncio.Event())

    run_virtually(test())


def test_a_proof_that_cannot_be_had_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A line every few seconds, and no script meanwhile."""

    async def test() -> None:
        engines = FakeEngines(is_away, is_away, holds)
        assert await ready(engines, asyncio.Event())
        assert engines.waits == 3
        assert 10 <= LoopClock().monotonic() < 11

    run_virtually(test())

    assert (
        caplog.messages
        == ["the isolation of scripts could not be tested: No answer to POST /pods."] * 2
    )


@pytest.mark.parametrize("proof", [takes_long, is_away])
def test_who_is_asked_to_stop_does_not_wait_for_the_proof(proof: Callable[[], Any]) -> None:
    """Neither for the canary, nor for the next try."""

    async def test() -> None:
        asked = asyncio.Event()
        asyncio.get_running_loop().call_later(2, asked.set)
        assert not await ready(FakeEngines(proof), asked)
        assert LoopClock().monotonic() < 3

    run_virtually(test())


def test_a_canary_that_got_out_ends_the_start() -> None:
    """With what helps."""

    async def test() -> None:
        with pytest.raises(StartupError, match=r"reached dns\. Apply a policy\."):
            await ready(FakeEngines(gets_out), asyncio.Event())

    run_virtually(test())


def test_an_unknown_function_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    """That names those that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["pump", "nobody"])

    assert ended.value.code == 2
    assert "coordinate" in capsys.readouterr().err


def test_a_setting_that_cannot_be_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is opened."""
    monkeypatch.setenv("INTEGR8S_HEALTH_PORT", "http")

    assert main(["pump", "coordinate"]) == 1

    assert "INTEGR8S_HEALTH_PORT is not usable" in capsys.readouterr().err
