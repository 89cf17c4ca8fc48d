"""Dead letters are kept, retried and parked, and never lost."""

from typing import Any

from functions.retry_dead_letters.handler import Needs, handle, handle_record
from shared.events.codec import header
from shared.events.timers import TimerDue
from shared.events.topics import Topic
from shared.ports.event_log import Record, TopicPartition
from shared.runtime.dead_letters import dead_letter
from tests import builders
from tests.builders import START, World, seconds

ORIGINAL = Record(
    "execution_events", 2, 7, b"key", (("ce_id", b"e1"), ("ce_type", b"t"), ("x", b"\xff")), b"\x00"
)


def needs_of(world: World, log: Any = None) -> Needs:
    """Return the ports of the function."""
    return Needs(
        dead_letters=world.documents("dead_letters"),
        timers=world.documents("timers"),
        log=log or world.log,
        clock=world.clock,
    )


def letter_of(original: Record, *, offset: int, function: str = "coordinate") -> Record:
    """Return the record of `dead_letters` that a failure leaves."""
    new = dead_letter(original, ValueError("no"), function=function, attempts=2, at=builders.START)
    return Record(Topic.DEAD_LETTERS, 0, offset, new.key, new.headers, new.value)


async def only_letter(world: World) -> dict[str, Any]:
    """Return the one letter that there is."""
    (letter,) = await world.documents("dead_letters").find()
    return letter


async def fire(world: World, needs: Needs | None = None) -> None:
    """Let its timer be due."""
    (timer,) = await world.documents("timers").find()
    await world.documents("timers").delete(timer["_id"])
    await world.clock.advance(timer["due_at"] - world.clock.now())
    due = TimerDue(
        timer_id=timer["_id"],
        target="retry-dead-letters",
        kind="retry",
        key=timer["key"],
        due_at=timer["due_at"],
    )
    await handle(builders.event(due), needs or needs_of(world))


async def sent_again(world: World, topic: str = "execution_events") -> list[Record]:
    """Return what lies in a topic."""
    found: list[Record] = []
    for partition in range(6):
        place = TopicPartition(topic, partition)
        found += await world.log.read(place, offset=0, limit=100)
    return found


async def test_a_failure_is_kept_and_planned(world: World) -> None:
    """Bytes and headers as they were."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))

    letter = await only_letter(world)
    assert (letter["status"], letter["body"], letter["function"]) == (
        "scheduled",
        b"\x00",
        "coordinate",
    )
    assert [tuple(pair) for pair in letter["headers"]] == list(ORIGINAL.headers)
    assert (await world.documents("timers").find())[0]["due_at"] == letter["next_retry_at"]
    assert [event.type for event in await world.emitted("dead_letters")] == ["dlq.received"]


async def test_a_letter_delivered_twice_counts_once(world: World) -> None:
    """By its place in the topic."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))

    assert len((await only_letter(world))["attempts"]) == 1


async def test_two_functions_failing_at_one_event_are_two_letters(world: World) -> None:
    """Each is tried again by itself."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    await handle_record(letter_of(ORIGINAL, offset=1, function="saga-step"), needs_of(world))

    assert await world.documents("dead_letters").count() == 2


async def test_a_retry_is_the_original_for_the_one_that_failed(world: World) -> None:
    """To its topic, untouched, marked."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    await fire(world)

    (record,) = await sent_again(world)
    assert (record.key, record.value) == (b"key", b"\x00")
    assert record.headers[:3] == ORIGINAL.headers
    assert header(record.headers, "dlqtarget") == b"coordinate"
    assert (await only_letter(world))["status"] == "retried"


async def test_failing_again_counts_on_without_growing(world: World) -> None:
    """The same letter, one attempt more, the same headers."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    await fire(world)
    (record,) = await sent_again(world)

    await handle_record(letter_of(record, offset=1), needs_of(world))

    letter = await only_letter(world)
    assert (letter["status"], len(letter["attempts"])) == ("scheduled", 2)
    assert [tuple(pair) for pair in letter["headers"]] == list(ORIGINAL.headers)
    assert letter["next_retry_at"] > world.clock.now() + seconds(50)


async def test_attempts_that_are_used_up_are_parked_with_an_alert(world: World) -> None:
    """After the fifth retry a person has to look."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    for offset in range(1, 6):
        await fire(world)
        await handle_record(letter_of(ORIGINAL, offset=offset), needs_of(world))

    letter = await only_letter(world)
    assert (letter["status"], len(letter["attempts"])) == ("parked", 6)
    types = [event.type for event in await world.emitted("dead_letters")]
    assert types[-2:] == ["dlq.parked", "system.alert"]
    assert await world.documents("timers").count() == 0


async def test_an_old_timer_does_not_hurry_the_next_try(world: World) -> None:
    """Delivered again after it failed again, it is out of date."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))
    await fire(world)
    await handle_record(letter_of(ORIGINAL, offset=1), needs_of(world))
    old = TimerDue(
        timer_id="t",
        target="retry-dead-letters",
        kind="retry",
        key=(await only_letter(world))["_id"],
        due_at=START + seconds(31),
    )

    await handle(builders.event(old), needs_of(world))

    assert len(await sent_again(world)) == 1
    assert (await only_letter(world))["status"] == "scheduled"


class _FailsAtOnce:
    """A log whose reader fails again before the sender has marked the letter."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def append(self, records: Any) -> None:
        """Append; then let the next failure come in."""
        await self.world.log.append(records)
        await handle_record(letter_of(ORIGINAL, offset=1), needs_of(self.world))


async def test_a_failure_that_overtakes_the_mark_is_not_struck_off(world: World) -> None:
    """Its next try is planned; marking the letter as retried would be its end."""
    await handle_record(letter_of(ORIGINAL, offset=0), needs_of(world))

    await fire(world, needs_of(world, _FailsAtOnce(world)))

    letter = await only_letter(world)
    assert (letter["status"], len(letter["attempts"])) == ("scheduled", 2)
    assert await world.documents("timers").count() == 1


async def test_news_of_failures_breed_no_news(world: World) -> None:
    """Where whoever stores them fails at all of them, that would never end."""
    news = Record("user_events", 0, 0, b"k", (("ce_id", b"n"), ("ce_type", b"dlq.received")), b"{}")

    await handle_record(letter_of(news, offset=0), needs_of(world))

    assert (await only_letter(world))["status"] == "scheduled"
    assert await world.emitted("dead_letters") == []


async def test_bytes_that_are_no_event_are_kept_too(world: World) -> None:
    """Known by where they lay; a copy that fails again counts on."""
    bare = Record("execution_events", 1, 3, None, (), None)
    await handle_record(letter_of(bare, offset=0), needs_of(world))
    await fire(world)
    (record,) = await sent_again(world)

    await handle_record(letter_of(record, offset=1), needs_of(world))

    assert len((await only_letter(world))["attempts"]) == 2


async def test_timers_of_others_are_left_alone(world: World) -> None:
    """And of letters that are gone."""
    due = TimerDue(timer_id="t", target="x", kind="retry", key="gone", due_at=START)

    await handle(builders.event(due), needs_of(world))

    assert await sent_again(world) == []
