"""What is due is said, once more rather than never."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from functions.fire_timers.handler import Needs, fire_due
from shared.domain.errors import TemporaryError
from shared.events.event import Event
from shared.events.timers import timer
from tests.builders import START, TRACEPARENT, World, seconds


class Nothing:
    """Outboxes without leftovers."""

    async def sweep(self) -> int:
        """Find nothing."""
        return 0


def needs_of(world: World) -> Needs:
    """Return the ports of the function."""
    return Needs(
        timers=world.documents("timers"),
        outboxes=Nothing(),
        publisher=world.said,
        clock=world.clock,
    )


async def arm(world: World, key: str, after: float) -> str:
    """Set a timer."""
    timer_id, document = timer(
        target="saga-step",
        kind="deadline",
        key=key,
        due_at=START + timedelta(seconds=after),
        correlation_id="c",
        traceparent=TRACEPARENT,
    )
    await world.documents("timers").insert(timer_id, document)
    return timer_id


async def test_what_is_due_is_said_and_removed(world: World) -> None:
    """The earliest first; what is not due waits."""
    await arm(world, "b", 2)
    await arm(world, "a", 1)
    await arm(world, "c", 3)
    await world.clock.advance(seconds(2))

    assert await fire_due(needs_of(world)) == 2

    assert [event.subject for event in world.said.events] == ["a", "b"]
    assert await world.documents("timers").count() == 1


async def test_a_timer_fired_twice_is_one_event(world: World) -> None:
    """A crash between saying and removing repeats the id."""
    await arm(world, "a", 0)
    await fire_due(needs_of(world))
    await arm(world, "a", 0)
    await fire_due(needs_of(world))

    first, second = world.said.events
    assert first.id == second.id


async def test_a_timer_set_anew_is_another_event(world: World) -> None:
    """Another instant, another id."""
    await arm(world, "a", 0)
    await fire_due(needs_of(world))
    await arm(world, "a", -1)
    await fire_due(needs_of(world))

    first, second = world.said.events
    assert first.id != second.id


async def test_a_claimed_timer_is_left_alone_until_its_lease_ends(world: World) -> None:
    """Two processes do not fire it together; a dead one does not keep it."""
    await arm(world, "a", 0)
    world.said.away = 1
    with pytest.raises(TemporaryError):
        await fire_due(needs_of(world))

    assert await fire_due(needs_of(world)) == 0
    await world.clock.advance(seconds(31))
    assert await fire_due(needs_of(world)) == 1


class _SetAnew:
    """A log whose reader sets the timer anew before it is removed."""

    def __init__(self, world: World, timer_id: str) -> None:
        self.world, self.timer_id = world, timer_id

    async def publish(self, events: Sequence[Event]) -> None:
        """Handle it at once."""
        assert len(events) == 1
        await self.world.documents("timers").change(
            self.timer_id, set={"due_at": START + seconds(60)}, unset=["lease_until"]
        )


async def test_a_timer_set_anew_while_it_fires_stays(world: World) -> None:
    """It is not ours to remove any more."""
    timer_id = await arm(world, "a", 0)
    needs = needs_of(world)._replace(publisher=_SetAnew(world, timer_id))

    await fire_due(needs)

    (left,) = await world.documents("timers").find()
    assert left["due_at"] == START + seconds(60)


async def test_more_than_a_page_is_fired_in_turns(world: World) -> None:
    """A hundred at a time."""
    for number in range(101):
        await arm(world, str(number), 0)

    assert await fire_due(needs_of(world)) == 100
    assert await fire_due(needs_of(world)) == 1
