"""Every invariant can be broken: evidence made by hand violates exactly one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.domain.identifiers import derived_id, pod_name_of
from shared.events.event import Event, Payload
from shared.events.executions import ExecutionCompleted, ExecutionQueued, ExecutionRequested
from shared.events.results import ResultStored
from shared.events.topics import Topic
from shared.ports.cluster import Pod, PodPhase
from shared.ports.event_log import Position, Record, TopicPartition
from shared.runtime.evidence import Call, Caps, Deed, Evidence, Fault, Frame, Logged, Stream
from shared.runtime.invariants import INVARIANTS, check_all

T0 = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ONE, TWO = "11111111-0000-7000-8000-000000000001", "22222222-0000-7000-8000-000000000002"
SCRIPT = "print('hi')"


def at(seconds: float) -> datetime:
    """Return an instant of the story."""
    return T0 + timedelta(seconds=seconds)


def execution(execution_id: str = ONE, **fields: Any) -> dict[str, Any]:
    """Return a finished execution."""
    return {
        "_id": execution_id,
        "execution_id": execution_id,
        "user_id": "anna",
        "status": "completed",
        "script": SCRIPT,
        "timeout_seconds": 30,
        "accepted_at": at(0),
        "updated_at": at(5),
        "scheduled_at": at(1),
        "finished_at": at(4),
        "stdout": b"hi\n",
        "stderr": b"",
        "stdout_truncated": False,
        "stderr_truncated": False,
        **fields,
    }


def event(data: Payload, *, second: float, execution_id: str = ONE, step: str = "") -> Event:
    """Return one event of the story."""
    return Event(
        id=derived_id(execution_id, data.TYPE + step),
        source="/integr8s/test",
        subject=execution_id,
        time=at(second),
        data=data,
        correlation_id="c",
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    )


def requested(execution_id: str = ONE) -> Event:
    """Return the beginning."""
    data = ExecutionRequested(
        execution_id=execution_id,
        user_id="anna",
        script=SCRIPT,
        lang="python",
        lang_version="3.11",
        runtime_image="python:3.11-slim",
        runtime_command=("python",),
        runtime_filename="main.py",
        timeout_seconds=30,
        cpu_limit="2000m",
        memory_limit="512Mi",
        cpu_request="200m",
        memory_request="128Mi",
        priority="normal",
        accepted_at=at(0),
    )
    return event(data, second=0, execution_id=execution_id)


def queued(position: int = 0, depth: int = 0) -> Event:
    """Return the word about its place."""
    data = ExecutionQueued(
        execution_id=ONE, user_id="anna", position=position, priority="normal", queue_depth=depth
    )
    return event(data, second=1)


def completed() -> Event:
    """Return the fact."""
    return event(ExecutionCompleted(execution_id=ONE, user_id="anna", exit_code=0), second=4)


def stored(
    status: str = "completed", *, second: float = 5, step: str = "", execution_id: str = ONE
) -> Event:
    """Return the end."""
    data = ResultStored(
        execution_id=execution_id,
        user_id="anna",
        status=status,
        storage_path=execution_id,
        size_bytes=3,
        result={},
    )
    return event(data, second=second, step=step, execution_id=execution_id)


def logged(*events: Event) -> list[Logged]:
    """Return events as they lie in the log."""
    return [
        Logged(Record(e.topic, 0, number, e.key.encode(), (), b"{}"), e)
        for number, e in enumerate(events)
    ]


def history(*events: Event, first: int = 1) -> list[dict[str, Any]]:
    """Return the stored history of the events."""
    return [
        {
            "_id": e.id,
            "event_id": e.id,
            "execution_id": e.subject,
            "seq": number,
            "event_type": e.type,
        }
        for number, e in enumerate(events, start=first)
    ]


def deed(what: Any, second: float, execution_id: str = ONE, **fields: Any) -> Deed:
    """Return one deed of the cluster."""
    return Deed(
        at=at(second),
        what=what,
        pod_name=pod_name_of(execution_id),
        execution_id=execution_id,
        **{"user_id": "anna", "cpu_millicores": 200, "memory_bytes": 1024, **fields},
    )


def call(operation: Any, second: float, **fields: Any) -> Call:
    """Return one call of a client."""
    return Call(
        at=at(second),
        operation=operation,
        **{"user_id": "anna", "status": 200, "execution_id": ONE, **fields},
    )


STORY = (requested(), queued(), completed(), stored())
FRAMES = (
    Frame(None, event_type="status"),
    *(Frame(str(n), event_type=e.type) for n, e in enumerate(STORY, start=1)),
    Frame(None, name="end", event_type="end"),
)


def documents(**collections: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the documents of the story, some collections replaced."""
    return {
        "executions": [execution()],
        "events": history(*STORY),
        "pools": [{"_id": "default", "name": "default", "capacity": {}, "holders": {}}],
        "sagas": [{"_id": "saga", "execution_id": ONE}],
        "idempotency_keys": [{"_id": "key", "execution_id": ONE}],
        "dead_letters": [],
        **collections,
    }


GOOD = Evidence(
    at=at(100),
    documents=documents(),
    log=logged(*STORY),
    groups={"coordinate": {TopicPartition(Topic.EXECUTION_EVENTS, 0): Position(0, 4, 4)}},
    deeds=[
        deed("create", 2),
        deed("end", 4, stdout=b"hi\n"),
        deed("gone", 6),
    ],
    calls=[
        call("submit", 0, script=SCRIPT, key="k", fingerprint="f"),
        call("submit", 1, script=SCRIPT, key="k", fingerprint="f"),
        call("submit", 1, key="k", fingerprint="other", status=422, execution_id=None),
        call("submit", 1, status=429, execution_id=None, user_id="bert"),
        call("read", 2),
        call("read", 7, outcome="completed hi"),
        call("read", 8, outcome="completed hi"),
        call("read", 8, user_id="bert", status=404, body="unknown"),
        call("read", 8, execution_id=TWO, status=404, body="unknown"),
    ],
    streams=[Stream("anna-1", ONE, FRAMES, complete=True)],
    quiet=True,
)


def having(**collections: list[dict[str, Any]]) -> Evidence:
    """Return the good evidence with other documents."""
    return replace(GOOD, documents=documents(**collections))


def with_execution(**fields: Any) -> Evidence:
    """Return the good evidence with another state of its execution."""
    return having(executions=[execution(**fields)])


def with_calls(*calls: Call) -> Evidence:
    """Return the good evidence with more calls."""
    return replace(GOOD, calls=[*GOOD.calls, *calls])


def with_end(status: str, **fields: Any) -> Evidence:
    """Return the good evidence with an end of another status, said and stored alike."""
    story = (*STORY[:-1], stored(status))
    return replace(
        GOOD,
        documents=documents(
            executions=[execution(status=status, **fields)], events=history(*story)
        ),
        log=logged(*story),
        calls=[each for each in GOOD.calls if each.outcome is None],
    )


def pod(execution_id: str, *, created: float) -> Pod:
    """Return a pod that exists now."""
    return Pod(pod_name_of(execution_id), "uid", execution_id, PodPhase.ENDED, at(created))


def stream(*frames: Frame, complete: bool = False) -> Evidence:
    """Return the good evidence with other frames."""
    return replace(GOOD, streams=[Stream("anna-1", ONE, frames, complete=complete)])


def poisoned(**dead_letter: Any) -> Evidence:
    """Return the good evidence with a record that nobody understands, and what was kept of it."""
    bad = Logged(Record(Topic.EXECUTION_EVENTS, 3, 7, b"k", (), b"\xff"), None, understood=False)
    kept = {
        "_id": "d",
        "original_topic": Topic.EXECUTION_EVENTS,
        "partition": 3,
        "offset": 7,
        "body": b"\xff",
        **dead_letter,
    }
    return replace(
        GOOD,
        documents=documents(dead_letters=[kept] if dead_letter else []),
        log=[*GOOD.log, bad],
    )


def sagas_without_request() -> Evidence:
    """Return evidence of a saga and a key that nobody's execution accounts for."""
    return having(sagas=[{"_id": "saga", "execution_id": TWO}])


BROKEN: list[tuple[int, str, Callable[[], Evidence]]] = [
    (1, "lost", lambda: with_calls(call("submit", 1, execution_id=TWO, script=SCRIPT))),
    (1, "another script", lambda: with_calls(call("submit", 1, script="rm -rf", key="x"))),
    (1, "in the log only", lambda: replace(GOOD, log=[*GOOD.log, *logged(requested(TWO))])),
    (
        2,
        "two ends",
        lambda: replace(
            GOOD,
            log=logged(*STORY, stored(step="again")),
            documents=documents(events=history(*STORY, stored(step="again"))),
        ),
    ),
    (2, "written again", lambda: replace(GOOD, log=logged(*STORY, stored(second=5.5)))),
    (2, "said otherwise", lambda: replace(GOOD, log=logged(*STORY[:-1], stored("cancelled")))),
    (2, "never told", lambda: replace(GOOD, log=logged(*STORY[:-1]))),
    (
        2,
        "no end",
        lambda: replace(
            with_execution(status="queued", finished_at=None),
            log=logged(*STORY[:-1]),
            deeds=[],
            calls=[each for each in GOOD.calls if each.outcome is None],
        ),
    ),
    (2, "shown twice", lambda: with_calls(call("read", 9, outcome="failed"))),
    (2, "shown and taken back", lambda: with_calls(call("read", 9))),
    (
        3,
        "late",
        lambda: replace(
            GOOD,
            at=at(5000),
            log=logged(*STORY[:-1], stored(second=3600 + 30 + 61)),
            deeds=[deed("create", 2), deed("end", 4, stdout=b"hi\n"), deed("gone", 3700)],
        ),
    ),
    (
        4,
        "two pods",
        lambda: replace(
            GOOD, deeds=[*GOOD.deeds, deed("create", 10), deed("end", 11), deed("gone", 12)]
        ),
    ),
    (5, "still there", lambda: replace(GOOD, pods=[pod(ONE, created=2)])),
    (5, "nobody's", lambda: replace(GOOD, pods=[pod(TWO, created=2)])),
    (5, "gone late", lambda: replace(GOOD, deeds=[*GOOD.deeds[:2], deed("gone", 5 + 61)])),
    (6, "removed early", lambda: replace(GOOD, deeds=[*GOOD.deeds[:2], deed("gone", 4.5)])),
    (6, "bytes missing", lambda: with_execution(stdout=b"h")),
    (
        6,
        "cut in silence",
        lambda: replace(
            GOOD,
            caps=Caps(output_kept_bytes=3),
            deeds=[deed("create", 2), deed("end", 4, stdout=b"hi\nho"), deed("gone", 6)],
        ),
    ),
    (7, "a counter", lambda: having(pools=[{"_id": "p", "queue_depth": 3, "holders": {}}])),
    (
        7,
        "below zero",
        lambda: replace(GOOD, log=logged(requested(), queued(1, depth=-1), completed(), stored())),
    ),
    (
        8,
        "too many",
        lambda: replace(
            GOOD,
            caps=Caps(slots=1),
            deeds=[deed("create", 2), deed("create", 3, TWO, user_id="bert"), *GOOD.deeds[1:]],
        ),
    ),
    (
        8,
        "too many of one",
        lambda: replace(
            GOOD,
            caps=Caps(per_user=1),
            deeds=[deed("create", 2), deed("create", 3, TWO), *GOOD.deeds[1:]],
        ),
    ),
    (8, "processor", lambda: replace(GOOD, caps=Caps(cpu_millicores=199))),
    (8, "memory", lambda: replace(GOOD, caps=Caps(memory_bytes=1023))),
    (8, "waiting of one", lambda: replace(GOOD, caps=Caps(queued_per_user=0))),
    (8, "waiting of all", lambda: replace(GOOD, caps=Caps(queue_length=0))),
    (8, "leaked", lambda: having(pools=[{"_id": "p", "holders": {ONE: {}}}])),
    (8, "nobody's slot", lambda: having(pools=[{"_id": "p", "holders": {TWO: {}}}])),
    (9, "gap", lambda: having(events=history(*STORY, first=2))),
    (9, "repeat", lambda: having(events=[*history(*STORY), *history(STORY[0])])),
    (9, "two numbers", lambda: having(events=history(*STORY, STORY[0]))),
    (9, "missing", lambda: having(events=history(STORY[0], *STORY[2:]))),
    (10, "again", lambda: stream(Frame("1"), Frame("2"), Frame("2"))),
    (10, "missed", lambda: stream(Frame("1"), Frame("3"))),
    (10, "numbered status", lambda: stream(Frame("1", event_type="status"))),
    (10, "cut short", lambda: stream(*FRAMES[:3], FRAMES[-1], complete=True)),
    (
        11,
        "two ids",
        lambda: replace(
            GOOD,
            documents=documents(
                executions=[execution(), execution(TWO)],
                events=[*history(*STORY), *history(requested(TWO), stored(execution_id=TWO))],
            ),
            log=logged(*STORY, requested(TWO), stored(execution_id=TWO)),
            calls=[*GOOD.calls, call("submit", 1, execution_id=TWO, key="k", fingerprint="f")],
        ),
    ),
    (11, "two bodies", lambda: with_calls(call("submit", 1, key="k", fingerprint="other"))),
    (12, "shown", lambda: with_calls(call("cancel", 8, user_id="bert", body="yes"))),
    (
        12,
        "told apart",
        lambda: with_calls(call("read", 8, user_id="bert", status=403, body="not yours")),
    ),
    (13, "ignored", lambda: with_execution(cancel_requested_at=at(3))),
    (13, "promised", lambda: with_calls(call("cancel", 3, acknowledged=True))),
    (
        13,
        "ran on",
        lambda: replace(
            with_end("cancelled", cancel_requested_at=at(3)),
            deeds=[deed("create", 2), deed("end", 20, stdout=b"hi\n"), deed("gone", 21)],
        ),
    ),
    (
        13,
        "output after the end",
        lambda: replace(
            with_end("cancelled", cancel_requested_at=at(3)),
            documents={
                **with_end("cancelled", cancel_requested_at=at(3)).documents,
                "events": [
                    *history(*STORY),
                    {
                        "_id": "o",
                        "event_id": "o",
                        "execution_id": ONE,
                        "seq": 5,
                        "event_type": "execution.output",
                        "timestamp": at(4),
                        "stored_at": at(5.5),
                    },
                ],
            },
        ),
    ),
    (
        16,
        "stuck",
        lambda: replace(
            GOOD,
            groups={
                "coordinate": {TopicPartition(Topic.EXECUTION_EVENTS, 0): Position(0, 4, None)}
            },
        ),
    ),
    (16, "not kept", poisoned),
    (16, "kept otherwise", lambda: poisoned(body=b"?")),
    (17, "left", lambda: replace(GOOD, outboxes=[("executions", ONE, stored())])),
    (
        17,
        "never requested",
        lambda: replace(
            GOOD,
            log=logged(*STORY[1:]),
            documents=documents(events=history(*STORY[1:])),
            streams=[],
        ),
    ),
    (18, "no type", lambda: with_end("failed", error_code="signal", error_message="It crashed.")),
    (
        18,
        "no code",
        lambda: with_end("failed", error_type="script_error", error_message="It crashed."),
    ),
    (
        18,
        "no sentence",
        lambda: with_end("error", error_type="system_error", error_code="image_pull"),
    ),
    (18, "an error in a success", lambda: with_execution(error_type="timeout")),
    (
        19,
        "left by a refusal",
        lambda: replace(
            GOOD,
            calls=[each for each in GOOD.calls if each.operation != "submit" or each.status != 200],
        ),
    ),
    (19, "a saga of nobody", sagas_without_request),
    (19, "a key of nobody", lambda: having(idempotency_keys=[{"_id": "key", "execution_id": TWO}])),
]


def test_good_evidence_has_no_violation() -> None:
    """The story itself, told to its end, keeps every invariant."""
    assert check_all(GOOD) == []


@pytest.mark.parametrize(
    ("number", "break_it"),
    [pytest.param(number, break_it, id=f"{number} {how}") for number, how, break_it in BROKEN],
)
def test_a_broken_rule_is_found(number: int, break_it: Callable[[], Evidence]) -> None:
    """Evidence that breaks one rule is found by that rule, and by no other."""
    assert {violation.invariant for violation in check_all(break_it())} == {number}


def test_every_rule_can_be_broken() -> None:
    """No invariant is without evidence that violates it."""
    assert {number for number, _, _ in BROKEN} == {each.number for each in INVARIANTS}


def test_doctor_judges_only_what_it_can_see() -> None:
    """With documents and topics alone nothing is called wrong for want of a ledger."""
    seen = replace(GOOD, deeds=[], calls=[], streams=[], quiet=False)

    assert check_all(seen, read_only=True) == []
    assert {each.number for each in INVARIANTS if each.read_only} == {1, 2, 3, 5, 7, 9, 17, 18}


def test_time_without_an_engine_does_not_count() -> None:
    """An end that an outage delayed is in time; the same end without the outage is late."""
    late = replace(
        GOOD,
        at=at(5000),
        log=logged(*STORY[:-1], stored(second=3600 + 30 + 61)),
        deeds=[deed("create", 2), deed("end", 4, stdout=b"hi\n"), deed("gone", 3700)],
    )
    excused = replace(late, faults=[Fault("documents", at(100), at(105))])

    assert check_all(late) != []
    assert check_all(excused) == []


def test_a_fresh_outbox_is_no_leftover() -> None:
    """An event that was stored a moment ago may still be on its way."""
    fresh = replace(GOOD, at=at(30), quiet=False, outboxes=[("executions", ONE, stored(second=5))])

    assert check_all(fresh) == []


def test_a_redelivered_event_counts_once() -> None:
    """The same end, delivered twice under one id, is one end."""
    assert check_all(replace(GOOD, log=logged(*STORY, STORY[-1]))) == []


def test_a_run_that_is_under_way_is_no_violation() -> None:
    """Before rest, what has not ended yet has simply not ended yet."""
    under_way = replace(
        with_execution(status="running", finished_at=None),
        at=at(20),
        log=logged(*STORY[:-1]),
        pods=[pod(ONE, created=2)],
        deeds=GOOD.deeds[:1],
        calls=[each for each in GOOD.calls if each.outcome is None],
        quiet=False,
    )

    assert check_all(under_way) == []
