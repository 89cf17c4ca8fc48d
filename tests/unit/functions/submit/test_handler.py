"""Accepting a request once."""

from dataclasses import replace
from typing import Any

import pytest

from functions.submit.handler import Accepted, Needs, Request, Room, handle, submit
from shared.domain.errors import Refusal, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.events.executions import ExecutionSubmit
from tests import builders
from tests.builders import TRACEPARENT, Counted, World, seconds


def needs_of(world: World, **settings: Any) -> Needs:
    """Return the ports of the function."""
    return Needs(
        executions=world.documents("executions"),
        idempotency_keys=world.documents("idempotency_keys"),
        publisher=world.said,
        clock=world.clock,
        ids=world.ids,
        offer=world.offer,
        settings=ExecutionSettings(**settings),
        room=Room(),
    )


def asked(key: str | None = None, **fields: Any) -> Request:
    """Return a request."""
    return Request(
        body=builders.request(**fields),
        user_id="user-1",
        may_raise_priority=False,
        correlation_id="c",
        traceparent=TRACEPARENT,
        idempotency_key=key,
    )


async def test_document_and_event_are_one_write(world: World) -> None:
    """What is accepted is stored, and what is stored is said."""
    accepted = await submit(asked(), needs_of(world))

    stored = await world.documents("executions").get(accepted.execution_id)
    assert stored is not None
    assert [event.type for event in await world.emitted("executions")] == ["execution.requested"]


async def test_a_refusal_leaves_nothing(world: World) -> None:
    """No document, no event, no key."""
    with pytest.raises(Refusal):
        await submit(asked("key", timeout_seconds=0), needs_of(world))

    assert await world.documents("executions").count() == 0
    assert await world.documents("idempotency_keys").count() == 0


async def test_one_key_is_one_execution(world: World) -> None:
    """The second request gets the first one's id, and says so."""
    first = await submit(asked("key"), needs_of(world))
    second = await submit(asked("key"), needs_of(world))

    assert second == Accepted(first.execution_id, replayed=True)
    assert await world.documents("executions").count() == 1


async def test_one_key_with_another_body_is_refused(world: World) -> None:
    """A key stands for one request."""
    await submit(asked("key"), needs_of(world))

    with pytest.raises(Refusal, match="idempotency_mismatch"):
        await submit(asked("key", script="other"), needs_of(world))


async def test_keys_of_two_users_are_two_keys(world: World) -> None:
    """Nobody can find out another user's keys."""
    mine = await submit(asked("key"), needs_of(world))
    request = asked("key")
    theirs = await submit(
        Request(
            body=request.body,
            user_id="user-2",
            may_raise_priority=False,
            correlation_id="c",
            traceparent=TRACEPARENT,
            idempotency_key="key",
        ),
        needs_of(world),
    )

    assert mine.execution_id != theirs.execution_id


async def test_a_refused_request_frees_its_key(world: World) -> None:
    """There is room later, and the same key is as good as a new one."""
    with pytest.raises(Refusal, match="queue_full"):
        await submit(asked("key"), needs_of(world, queue_length=0))

    accepted = await submit(asked("key"), needs_of(world))

    assert not accepted.replayed


async def _crash_before_answer(world: World, *, is_stored: bool) -> str:
    """Leave a key behind as a process that died does; return the id that it had chosen."""
    await submit(asked("key"), needs_of(world))
    (held,) = await world.documents("idempotency_keys").find()
    await world.documents("idempotency_keys").change(held["_id"], set={"state": "running"})
    if not is_stored:
        await world.documents("executions").delete(held["execution_id"])
    return str(held["execution_id"])


async def test_a_running_key_is_answered_with_try_again(world: World) -> None:
    """Two requests at once: one of them waits."""
    await _crash_before_answer(world, is_stored=False)

    with pytest.raises(Refusal, match="idempotency_in_flight"):
        await submit(asked("key"), needs_of(world))


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
async def test_a_key_left_behind_is_taken_up(world: World, is_stored: bool) -> None:  # noqa: FBT001
    """After the lease the same execution goes on, whether or not it was stored."""
    chosen = await _crash_before_answer(world, is_stored=is_stored)
    await world.clock.advance(seconds(31))

    accepted = await submit(asked("key"), needs_of(world))

    assert accepted.execution_id == chosen
    assert await world.documents("executions").count() == 1


async def test_a_full_queue_does_not_disown_what_was_stored(world: World) -> None:
    """The first request found room and died; the second must not burn its key."""
    chosen = await _crash_before_answer(world, is_stored=True)
    await world.clock.advance(seconds(31))

    accepted = await submit(asked("key"), needs_of(world, queue_length=1))

    assert accepted.execution_id == chosen


async def test_an_expired_key_is_free(world: World) -> None:
    """After a day the key means nothing any more."""
    first = await submit(asked("key"), needs_of(world))
    await world.clock.advance(seconds(24 * 3600))

    second = await submit(asked("key"), needs_of(world))

    assert second.execution_id != first.execution_id


async def test_room_is_counted_per_user_and_in_all(world: World) -> None:
    """The hundred-and-first of one user is refused with the numbers."""
    await submit(asked(), needs_of(world))

    with pytest.raises(Refusal) as refused:
        await submit(asked(), needs_of(world, queued_per_user=1))

    assert refused.value.code == "user_queue_full"
    assert refused.value.context == {"limit": 1, "current": 1}


async def test_a_user_is_not_refused_for_what_others_have_waiting(world: World) -> None:
    """As many wait as one user may have, but they are another's."""
    await submit(asked(), needs_of(world))

    accepted = await submit(replace(asked(), user_id="another"), needs_of(world, queued_per_user=1))

    assert accepted.execution_id


async def test_the_own_are_counted_only_where_there_might_be_too_many(world: World) -> None:
    """Every request asks how long the queue is; a short one is nobody's limit."""
    executions: Any = Counted(world.documents("executions"), world.clock)

    await submit(asked(), needs_of(world)._replace(executions=executions))

    assert executions.calls["count"] == 1


async def test_an_almost_empty_queue_is_not_counted_for_each(world: World) -> None:
    """Those that come together are added to what was counted; a moment later it is counted anew."""
    executions: Any = Counted(world.documents("executions"), world.clock)
    needs = needs_of(world)._replace(executions=executions)

    for _ in range(3):
        await submit(asked(), needs)
    assert executions.calls["count"] == 1

    await world.clock.advance(seconds(0.2))
    await submit(asked(), needs)
    assert executions.calls["count"] == 2


async def test_no_more_are_accepted_than_may_wait_however_fast_they_come(world: World) -> None:
    """What was counted a moment ago serves only while the queue is far from full."""
    needs = needs_of(world, queued_per_user=7)

    for _ in range(7):
        await submit(asked(), needs)

    with pytest.raises(Refusal, match="user_queue_full"):
        await submit(asked(), needs)


async def test_a_posted_event_is_accepted_once(world: World) -> None:
    """Source and id are its key: a redelivery is no second execution."""
    posted = builders.event(ExecutionSubmit.model_validate(builders.request()), source="/them")

    await handle(posted, needs_of(world))
    await handle(posted, needs_of(world))

    assert await world.documents("executions").count() == 1


async def test_a_refused_event_is_said_under_no_strangers_subject(world: World) -> None:
    """A sender that names somebody's execution as the subject ends nothing by it."""
    body = builders.request(lang="cobol")
    posted = builders.event(ExecutionSubmit.model_validate(body), subject=builders.EXECUTION_ID)

    await handle(posted, needs_of(world))

    (said,) = world.said.events
    assert said.type == "execution.rejected"
    assert said.causation_id == posted.id
    assert said.subject != builders.EXECUTION_ID


async def test_an_event_without_room_is_tried_again(world: World) -> None:
    """There may be room later; nobody waits for an answer."""
    posted = builders.event(ExecutionSubmit.model_validate(builders.request()))

    with pytest.raises(TemporaryError):
        await handle(posted, needs_of(world, queue_length=0))
