"""Alarms ring by the time that was asked for, whoever else sets, moves or fires them."""

from typing import Any

from shared.ports.alarms import arm
from shared.ports.documents import Documents
from tests.builders import START, TRACEPARENT, World, seconds


class _Racing:
    """Timers of which one is fired and removed between an insert and its change."""

    def __init__(self, inner: Documents) -> None:
        self.inner = inner
        self.races = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def change(self, key: str, **change: Any) -> Any:
        """Lose a race."""
        if self.races:
            self.races -= 1
            await self.inner.delete(key)
        return await self.inner.change(key, **change)


async def _arm(timers: Any, after: float) -> Any:
    return await arm(
        timers,
        target="coordinate",
        kind="expire",
        key="default",
        due_at=START + seconds(after),
        correlation_id="request-1",
        traceparent=TRACEPARENT,
    )


async def test_an_alarm_that_fires_while_it_is_moved_is_set_again(world: World) -> None:
    """Whoever relies on it would wait for ever without one."""
    timers = world.documents("timers")
    await _arm(timers, 20)
    racing = _Racing(timers)

    rings_at = await _arm(racing, 10)

    [timer] = await timers.find()
    assert racing.races == 0
    assert timer["due_at"] == rings_at == START + seconds(10)


async def test_one_that_rings_earlier_stays_as_it_is(world: World) -> None:
    """It does as well; who asks for an earlier one moves it."""
    timers = world.documents("timers")
    await _arm(timers, 10)

    assert await _arm(timers, 20) == START + seconds(10)
    assert await _arm(timers, 5) == START + seconds(5)
    assert [timer["due_at"] for timer in await timers.find()] == [START + seconds(5)]
