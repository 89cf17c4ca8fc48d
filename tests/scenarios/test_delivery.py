"""What is delivered twice, late, broken, or not at all."""

from datetime import timedelta
from itertools import pairwise

import pytest

from shared.domain.errors import TemporaryError
from shared.events.topics import Topic
from shared.ports.event_log import NewRecord
from shared.runtime.invariants import check_all
from tests.scenarios.system import Invoke, Process, System


class Failing:
    """Lets some calls of some processes fail."""

    def __init__(self, slug: str, *operations: str, times: int) -> None:
        self.slug, self.operations, self.left = slug, operations, times

    async def around(self, process: Process, operation: str, call: Invoke) -> object:
        """Fail, or do the call."""
        if process.slug == self.slug and operation in self.operations and self.left > 0:
            self.left -= 1
            raise TemporaryError(f"{operation}: no answer")
        return await call()


class SlowPlans:
    """Lets the plan for a letter that fails again take five seconds."""

    async def around(self, process: Process, operation: str, call: Invoke) -> object:
        """Wait first, where it is one of those."""
        letters = process.system.collections["dead_letters"]
        if operation == "dead_letters.change" and await letters.count({"status": "retried"}):
            await process.system.clock.sleep(timedelta(seconds=5))
        return await call()


async def said_again(system: System) -> None:
    """Append every record of every topic but dead letters a second time."""
    for topic in Topic:
        for place, position in (await system.log.positions("", [topic])).items():
            records = await system.log.read(place, offset=position.start, limit=1000)
            if topic is not Topic.DEAD_LETTERS:
                await system.log.append(
                    [NewRecord(r.topic, r.key or b"", r.headers, r.value) for r in records]
                )


async def letters(system: System) -> list[tuple[str, str, int]]:
    """Return function, status and number of attempts of every dead letter."""
    found = await system.collections["dead_letters"].find()
    return [(each["function"], each["status"], len(each["attempts"])) for each in found]


async def test_everything_twice_changes_nothing(system: System) -> None:
    """After a run every record comes again: no pod, no event, no change of state."""
    execution_id = await system.accepted()
    await system.until_quiet()
    before = (await system.execution(execution_id), await system.history(execution_id))

    await said_again(system)
    await system.until_quiet()

    assert (await system.execution(execution_id), await system.history(execution_id)) == before
    assert system.deeds("create") == 1
    assert check_all(await system.evidence()) == []


async def test_a_function_that_fails_twice_tries_again_later(asleep: System) -> None:
    """The event goes to the dead letters and comes back after half a minute; nothing is lost."""
    asleep.interference = Failing("persist-result", "executions.change", times=3)
    asleep.start()
    execution_id = await asleep.accepted()

    await asleep.until_quiet(within=200)

    assert await asleep.status(execution_id) == "completed"
    assert await letters(asleep) == [("persist-result", "retried", 1)]
    assert check_all(await asleep.evidence()) == []


@pytest.mark.parametrize("times", [2, 4, 6])
async def test_a_guardian_that_hears_the_end_first_cleans_up_all_the_same(
    asleep: System, times: int
) -> None:
    """Where the word of the slot comes after that of the end, the pod is removed no later."""
    asleep.interference = Failing("saga-step", "sagas.change", times=times)
    asleep.start()
    await asleep.accepted()

    await asleep.until_quiet(within=400)

    assert check_all(await asleep.evidence()) == []


async def test_an_alarm_before_its_plan_is_not_lost(asleep: System) -> None:
    """A retry whose timer rings while its plan is still being written happens all the same."""
    asleep.interference = SlowPlans()
    asleep.start()
    await asleep.log.append([NewRecord(Topic.EXECUTION_RESULTS, b"k", (("x", b"y"),), b"bad")])

    await asleep.until_quiet(within=4 * 3600)

    assert {status for _, status, _ in await letters(asleep)} == {"parked"}


async def test_the_wait_grows_until_it_is_parked(asleep: System) -> None:
    """Five retries with growing waits, then a person has to look."""
    asleep.interference = Failing(
        "relay-events", "events.insert", "events.insert_all", times=10_000
    )
    asleep.start()
    await asleep.accepted()

    async def parked() -> bool:
        found = await letters(asleep)
        return bool(found) and {status for _, status, _ in found} == {"parked"}

    await asleep.until(parked, within=4 * 3600, every=30)

    tasks = await asleep.collections["dead_letters"].find({"original_topic": "execution_events"})
    waits = [later["at"] - earlier["at"] for earlier, later in pairwise(tasks[0]["attempts"])]
    assert {function for function, _, _ in await letters(asleep)} == {"relay-events"}
    assert [round(wait.total_seconds(), -1) for wait in waits] == pytest.approx(
        [30, 60, 120, 240, 300], rel=0.2
    )


@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"", b"{}", None], ids=["bytes", "empty", "object", "tombstone"]
)
@pytest.mark.parametrize("topic", [Topic.EXECUTION_EVENTS, Topic.POD_EVENTS, Topic.TIMERS])
async def test_poison_is_parked_and_work_goes_on(
    system: System, topic: Topic, value: bytes | None
) -> None:
    """What nobody understands is kept with its bytes; the next execution is not delayed by it."""
    await system.log.append([NewRecord(topic, b"k", (("x", b"y"),), value)])
    execution_id = await system.accepted()
    await system.until_status(execution_id, "completed", within=5)

    await system.until_quiet(within=4 * 3600)

    found = await system.collections["dead_letters"].find()
    assert found != []
    assert {(each["status"], each["body"]) for each in found} == {("parked", value)}
    assert check_all(await system.evidence()) == []


async def test_two_poisons_at_one_offset_are_two(system: System) -> None:
    """Records of two partitions without an id are kept apart."""
    await system.log.append(
        [NewRecord(Topic.EXECUTION_TASKS, f"k{n}".encode(), (), b"bad") for n in range(30)]
    )

    await system.until_quiet(within=4 * 3600)

    assert await system.collections["dead_letters"].count() == 30


async def test_a_crash_between_store_and_publish_costs_nothing(asleep: System) -> None:
    """What the dead process had stored and not said is said by the sweep."""
    asleep.start()
    asleep.away |= {"log"}
    execution_id = await asleep.accepted()
    asleep.gateway.kill()
    asleep.away.clear()
    asleep.gateway = asleep.new_gateway()

    await asleep.until_quiet()

    assert await asleep.status(execution_id) == "completed"
    assert check_all(await asleep.evidence()) == []


@pytest.mark.parametrize(
    "slug",
    [
        "coordinate",
        "saga-step",
        "launch-pod",
        "monitor-pods",
        "persist-result",
        "relay-events",
        "fire-timers",
    ],
)
async def test_a_function_that_dies_every_second(system: System, slug: str) -> None:
    """Whichever it is, the execution ends once, as it should."""
    execution_id = await system.accepted("long")
    for _ in range(30):
        await system.clock_at(system.clock.monotonic() + 1)
        system.kill(slug)
        system.start(slug)

    await system.until_quiet()

    assert await system.status(execution_id) == "completed"
    assert check_all(await system.evidence()) == []


@pytest.mark.parametrize("away", ["log", "cluster", "documents"])
async def test_an_engine_that_is_away_for_a_minute(system: System, away: str) -> None:
    """What was accepted before ends as it should when the engine is back."""
    execution_id = await system.accepted("long")
    engines = {"log": {"log", "consumer"}, "cluster": {"cluster"}}
    await system.clock_at(2)
    begun = system.clock.now()
    system.away |= engines.get(away, set(system.collections))
    await system.clock_at(62)
    system.away.clear()
    system.fault(away, begun)

    await system.until_quiet(within=1000)

    assert await system.status(execution_id) in {"completed", "timeout"}
    assert check_all(await system.evidence()) == []


async def test_submits_are_accepted_while_the_log_is_away(system: System) -> None:
    """They wait in their outboxes, and run when it is back."""
    begun = system.clock.now()
    system.away |= {"log", "consumer"}
    call = await system.submit()
    await system.clock_at(30)
    system.away.clear()
    system.fault("log", begun)

    await system.until_quiet()

    assert call.execution_id is not None
    assert await system.status(call.execution_id) == "completed"


async def test_without_documents_nothing_is_accepted(system: System) -> None:
    """The client hears that it may try again, and nothing is left behind."""
    system.away |= set(system.collections)
    call = await system.submit()
    system.away.clear()

    await system.until_quiet()

    assert call.execution_id is None
    assert await system.collections["executions"].count() == 0
