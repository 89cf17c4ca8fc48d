"""Keep what could not be handled, try it again with backoff, park what never works."""

import contextlib
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from functions.retry_dead_letters import rules
from shared.domain.errors import AlreadyExists
from shared.domain.identifiers import derived_id
from shared.domain.tracing import child_traceparent, is_traceparent, new_traceparent
from shared.events.dead_letters import (
    DeadLetterParked,
    DeadLetterReceived,
    DeadLetterRetried,
)
from shared.events.event import Event, Payload
from shared.events.system import SystemAlert
from shared.events.timers import TimerDue, timer
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.event_log import EventLog, NewRecord, Record

SOURCE = "/integr8s/retry-dead-letters"
SLUG = "retry-dead-letters"
ORIGIN = "dlqorigin"
"""Header of a retried record: the id under which its dead letter is kept."""
_KIND = "retry"
_OPEN = {"$in": ["pending", "scheduled", "retried"]}


class Needs(NamedTuple):
    """The ports of this function."""

    dead_letters: Documents
    timers: Documents
    log: EventLog
    clock: Clock


async def handle_record(record: Record, needs: Needs) -> None:
    """Keep one failed delivery; the same event failing again counts on."""
    failure = _failure(record)
    attempt = {
        "at": failure["failed_at"],
        "error": failure["error"],
        "by": f"{record.partition}:{record.offset}",
    }
    held = await needs.dead_letters.get(failure["dead_letter_id"])
    if held is None:
        fresh = {**failure, "status": "pending", "attempts": [], "created_at": needs.clock.now()}
        try:
            held = await needs.dead_letters.insert(failure["dead_letter_id"], fresh)
        except AlreadyExists:
            held = await needs.dead_letters.get(failure["dead_letter_id"])
    if held is None or any(past["by"] == attempt["by"] for past in held["attempts"]):
        return  # delivered twice
    await _plan(held, [*held["attempts"], attempt], needs)


async def handle(event: Event, needs: Needs) -> None:
    """Try again what is due."""
    if not isinstance(event.data, TimerDue) or event.data.kind != _KIND:
        return
    letter = await needs.dead_letters.get(event.data.key)
    if letter is not None and rules.is_due(letter, event.data.due_at):
        await _retry(letter, needs)


def _failure(record: Record) -> dict[str, Any]:
    """Return the entry that a record of `dead_letters` stands for; bytes and headers untouched."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    place = f"{headers['dlqtopic']}/{headers['dlqpartition']}@{headers['dlqoffset']}"
    # What has no id is known by where it lay first: a copy that fails again counts on.
    event_id = headers.get("ce_id") or headers.get(ORIGIN) or place
    function = headers["dlqfunction"]
    return {
        "dead_letter_id": derived_id(event_id, function),
        "event_id": event_id,
        "event_type": headers.get("ce_type", ""),
        "original_topic": headers["dlqtopic"],
        "partition": int(headers["dlqpartition"]),
        "offset": int(headers["dlqoffset"]),
        "key": record.key,
        "headers": [[name, value] for name, value in record.headers if rules.is_original(name)],
        "body": record.value,
        "function": function,
        "error_type": headers["dlqerrortype"],
        "error": headers["dlqerror"],
        "failed_at": datetime.fromisoformat(headers["dlqtime"]),
        "correlation_id": headers.get("ce_correlationid", event_id),
        "traceparent": headers.get("ce_traceparent", ""),
    }


async def _plan(letter: Document, attempts: list[dict[str, Any]], needs: Needs) -> None:
    """Set the time of the next try, or park the letter when there is none."""
    policy = rules.policy_of(letter["original_topic"])
    spread = int(derived_id(letter["dead_letter_id"], str(len(attempts)))[:4], 16) / 0xFFFF
    wait = rules.delay(policy, len(attempts), spread)
    now = needs.clock.now()
    timer_id, document = _timer(letter, now + (wait or timedelta(0)))
    emit = [_say(letter, attempts, DeadLetterReceived, "received", needs)]
    change: dict[str, Any] = {"attempts": attempts, "error": attempts[-1]["error"]}
    if wait is None:
        change |= {"status": "parked", "next_retry_at": None}
        emit += [
            _say(
                letter, attempts, DeadLetterParked, "parked", needs, next_step="retry or discard it"
            ),
            _alert(letter, attempts, needs),
        ]
    else:
        change |= {"status": "scheduled", "next_retry_at": now + wait}
        await _arm(timer_id, document, needs)
    planned = await needs.dead_letters.change(
        letter["dead_letter_id"],
        when={"status": _OPEN},
        set=change,
        emit=[] if _is_announcement(letter) else emit,
    )
    if wait is not None and planned is not None and await needs.timers.get(timer_id) is None:
        # It rang before the plan was written, and was taken for a timer of nothing.
        await _arm(timer_id, document, needs)


def _timer(letter: Document, due_at: datetime) -> tuple[str, dict[str, Any]]:
    return timer(
        target=SLUG,
        kind=_KIND,
        key=letter["dead_letter_id"],
        due_at=due_at,
        correlation_id=letter["correlation_id"],
        traceparent=_trace(letter),
    )


async def _arm(timer_id: str, document: Document, needs: Needs) -> None:
    """Set a timer, or move it; it may fire and be removed between the two."""
    while True:
        with contextlib.suppress(AlreadyExists):
            await needs.timers.insert(timer_id, document)
            return
        moved = await needs.timers.change(
            timer_id, set={"due_at": document["due_at"]}, unset=["lease_until"]
        )
        if moved is not None:
            return


async def _retry(letter: Document, needs: Needs) -> None:
    """Send the original again, to its topic, marked for the function that failed.

    Sent before it is marked: a crash in between sends it twice, which its idempotent handler
    bears; the other order would lose it. Marked only if it is as it was read: should it have failed
    again already, its next try is planned and must not be struck off.
    """
    headers = tuple((name, bytes(value)) for name, value in letter["headers"])
    marked = (
        *headers,
        ("dlqtarget", letter["function"].encode()),
        (ORIGIN, letter["event_id"].encode()),
    )
    record = NewRecord(letter["original_topic"], letter["key"] or b"", marked, letter["body"])
    await needs.log.append([record])
    retried = _say(
        letter,
        letter["attempts"],
        DeadLetterRetried,
        "retried",
        needs,
        retry_topic=letter["original_topic"],
    )
    await needs.dead_letters.change(
        letter["dead_letter_id"],
        when={"version": letter["version"]},
        set={"status": "retried", "next_retry_at": None, "resolved_at": needs.clock.now()},
        emit=[] if _is_announcement(letter) else [retried],
    )


def _is_announcement(letter: Document) -> bool:
    """Say whether the letter is itself the word of a failure: telling of it would never end."""
    return str(letter["event_type"]).startswith(("dlq.", SystemAlert.TYPE))


def _say(
    letter: Document,
    attempts: list[dict[str, Any]],
    kind: type[DeadLetterReceived | DeadLetterRetried | DeadLetterParked],
    step: str,
    needs: Needs,
    **more: str,
) -> Event:
    data = kind.model_validate(
        {
            "dead_letter_id": letter["dead_letter_id"],
            "original_event_id": letter["event_id"],
            "original_topic": letter["original_topic"],
            "original_type": letter["event_type"],
            "function": letter["function"],
            "error_type": letter["error_type"],
            # No attempt is on record where a crash came between the timer and the plan.
            "error": attempts[-1]["error"] if attempts else letter["error"],
            "attempt": len(attempts),
            "failed_at": attempts[-1]["at"] if attempts else letter["failed_at"],
            **more,
        }
    )
    return _event(letter, data, f"{step}:{len(attempts)}", needs)


def _alert(letter: Document, attempts: list[dict[str, Any]], needs: Needs) -> Event:
    alert = SystemAlert(
        alert="dead_letter_parked",
        severity="high",
        summary=f"{letter['function']} failed {len(attempts)} times on one event; it is parked.",
        details={"dead_letter_id": letter["dead_letter_id"]},
    )
    return _event(letter, alert, f"alert:{len(attempts)}", needs)


def _event(letter: Document, data: Payload, step: str, needs: Needs) -> Event:
    event_id = derived_id(letter["dead_letter_id"], step)
    return Event(
        id=event_id,
        source=SOURCE,
        subject=letter["dead_letter_id"],
        time=needs.clock.now(),
        data=data,
        correlation_id=letter["correlation_id"],
        causation_id=letter["event_id"],
        traceparent=child_traceparent(_trace(letter), event_id),
    )


def _trace(letter: Document) -> str:
    trace = letter["traceparent"]
    return trace if is_traceparent(trace) else new_traceparent(letter["dead_letter_id"])
