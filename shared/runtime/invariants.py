"""What must hold whatever happens: one function per invariant, from evidence to violations.

Scenarios, the simulation and `integr8s doctor` call the same functions. None of them reads anything
but the evidence, so each can be shown evidence made by hand that breaks exactly its rule.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from shared.domain.executions import TERMINAL, ErrorType, Status
from shared.events.executions import (
    ExecutionOutput,
    ExecutionQueued,
    ExecutionRequested,
)
from shared.events.results import ResultStored
from shared.events.topics import Topic
from shared.ports.documents import Document
from shared.runtime.dead_letters import TARGET
from shared.runtime.evidence import Call, Deed, Evidence, Stream

_MINUTE = timedelta(seconds=60)
_OUTBOX = timedelta(seconds=30)
_CANCEL = timedelta(seconds=10)
_HELD = timedelta(seconds=2)
_HISTORY = frozenset({Topic.EXECUTION_EVENTS, Topic.POD_EVENTS, Topic.EXECUTION_RESULTS})
"""Topics whose every event gets a number in its execution's history."""
_FAILURES = frozenset({Status.FAILED, Status.TIMEOUT, Status.ERROR})
_CODE = re.compile(r"[a-z][a-z0-9_]*")
_SUCCESS, _REFUSED = range(200, 300), range(400, 600)
_BROKEN = range(500, 600)


@dataclass(frozen=True, slots=True)
class Violation:
    """One case in which an invariant does not hold."""

    invariant: int
    subject: str
    """The execution, pod, user or whatever it is about."""
    sentence: str

    def __str__(self) -> str:
        return f"({self.invariant}) {self.subject}: {self.sentence}"


Check = Callable[[Evidence], list[Violation]]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One rule and the function that judges it."""

    number: int
    rule: str
    check: Check
    read_only: bool
    """Whether what a live system shows is enough to judge it."""


def check_all(evidence: Evidence, *, read_only: bool = False) -> list[Violation]:
    """Judge every invariant; with `read_only` only those that need no ledger of a test."""
    return [
        violation
        for invariant in INVARIANTS
        if invariant.read_only or not read_only
        for violation in invariant.check(evidence)
    ]


def _is_over(execution: Document) -> bool:
    return execution["status"] in TERMINAL


def _stored(evidence: Evidence) -> dict[str, list[ResultStored]]:
    """Return what was said of each execution's end, one entry for each time that it was written.

    The same event delivered again is equal to the last digit; an end that was written again under
    the same id has another time.
    """
    said: dict[str, list[ResultStored]] = defaultdict(list)
    seen: set[tuple[str, datetime]] = set()
    for logged in evidence.log:
        event = logged.event
        if event is None or not isinstance(event.data, ResultStored) or event.replay_id:
            continue
        if (event.id, event.time) not in seen:
            seen.add((event.id, event.time))
            said[event.subject].append(event.data)
    return said


def _ended_at(evidence: Evidence) -> dict[str, datetime]:
    """Return when each execution's end was stored."""
    times = {event.subject: event.time for event in evidence.events(ResultStored.TYPE)}
    for key, execution in evidence.executions().items():
        if key not in times and _is_over(execution):
            times[key] = execution.get("finished_at") or execution["updated_at"]
    return times


def _succeeded(call: Call) -> bool:
    return call.status in _SUCCESS


def _accepted(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.operation == "submit" and _succeeded(call))


# --- 1: an accepted execution is never lost --------------------------------------------------


def check_accepted_is_kept(evidence: Evidence) -> list[Violation]:
    """Every acknowledged submit has its document: that user's, with that script."""
    executions = evidence.executions()
    violations = []
    for call in _accepted(evidence.calls):
        execution = executions.get(call.execution_id or "")
        if execution is None:
            violations.append(Violation(1, str(call.execution_id), "was accepted and is lost"))
        elif execution["user_id"] != call.user_id or call.script not in {None, execution["script"]}:
            violations.append(
                Violation(1, str(call.execution_id), "is not what was accepted from its user")
            )
    violations += [
        Violation(1, event.subject, "is in the log but has no document")
        for event in evidence.events(ExecutionRequested.TYPE)
        if event.subject not in executions
    ]
    return violations


# --- 2: exactly one terminal state -----------------------------------------------------------


def check_one_end(evidence: Evidence) -> list[Violation]:
    """One `result_stored`, equal to what is stored; what a reader saw of the end never changes."""
    return [*_ends_said(evidence), *_ends_missing(evidence), *_ends_shown(evidence)]


def _ends_said(evidence: Evidence) -> Iterator[Violation]:
    executions = evidence.executions()
    for execution_id, said in _stored(evidence).items():
        if len(said) > 1:
            statuses = ", ".join(result.status for result in said)
            yield Violation(2, execution_id, f"has {len(said)} ends: {statuses}")
        execution = executions.get(execution_id)
        if execution is not None and execution["status"] != said[0].status:
            yield Violation(
                2, execution_id, f"was said to be {said[0].status}, stored is {execution['status']}"
            )


def _ends_missing(evidence: Evidence) -> Iterator[Violation]:
    said = set(_stored(evidence))
    waiting = {
        event.subject for _, _, event in evidence.outboxes if event.type == ResultStored.TYPE
    }
    for execution_id, execution in evidence.executions().items():
        if _is_over(execution) and execution_id not in said | waiting:
            yield Violation(2, execution_id, f"is {execution['status']} and nobody was told")
        if not _is_over(execution) and evidence.quiet:
            yield Violation(2, execution_id, f"stays {execution['status']} for ever")


def _ends_shown(evidence: Evidence) -> Iterator[Violation]:
    shown: dict[str, str] = {}
    for call in evidence.calls:
        if call.operation != "read" or call.execution_id is None or not _succeeded(call):
            continue
        first = shown.get(call.execution_id)
        if first is not None and call.outcome != first:
            yield Violation(2, call.execution_id, f"was shown as {first}, then as {call.outcome}")
        elif first is None and call.outcome is not None:
            shown[call.execution_id] = call.outcome


# --- 3: the end comes in time ----------------------------------------------------------------


def check_ends_in_time(evidence: Evidence) -> list[Violation]:
    """The end is stored by acceptance + queue limit + timeout + 60 s."""
    ended = _ended_at(evidence)
    violations = []
    for execution_id, execution in evidence.executions().items():
        within = (
            evidence.caps.queue_limit + timedelta(seconds=execution["timeout_seconds"]) + _MINUTE
        )
        due = evidence.due(execution["accepted_at"], within)
        if ended.get(execution_id, evidence.at) > due:
            late = (ended.get(execution_id, evidence.at) - due).total_seconds()
            violations.append(Violation(3, execution_id, f"is {late:.1f} s past its last moment"))
    return violations


# --- 4: at most one pod ----------------------------------------------------------------------


def check_one_pod(evidence: Evidence) -> list[Violation]:
    """No execution had more than one pod made for it, however many exist now."""
    made = Counter(deed.execution_id for deed in evidence.deeds if deed.what == "create")
    return [
        Violation(4, execution_id, f"had {count} pods made")
        for execution_id, count in made.items()
        if count > 1
    ]


# --- 5: nothing outlives its execution -------------------------------------------------------


def check_nothing_left_behind(evidence: Evidence) -> list[Violation]:
    """A pod is gone 60 s after its execution's end, and none belongs to nobody."""
    return [*_pods_left(evidence), *_pods_gone_late(evidence)]


def _pods_left(evidence: Evidence) -> Iterator[Violation]:
    executions, ended = evidence.executions(), _ended_at(evidence)
    for pod in evidence.pods:
        if pod.deleted:
            continue
        known = pod.execution_id in executions
        since = ended.get(pod.execution_id) if known else pod.created_at
        if since is not None and evidence.at > evidence.due(max(since, pod.created_at), _MINUTE):
            why = "outlives its execution" if known else "belongs to no execution"
            yield Violation(5, pod.name, why)


def _pods_gone_late(evidence: Evidence) -> Iterator[Violation]:
    ended = _ended_at(evidence)
    made = {deed.pod_name: deed.at for deed in evidence.deeds if deed.what == "create"}
    for deed in evidence.deeds:
        if deed.what != "gone" or deed.execution_id not in ended:
            continue
        since = max(ended[deed.execution_id], made.get(deed.pod_name, ended[deed.execution_id]))
        if deed.at > evidence.due(since, _MINUTE):
            late = (deed.at - since).total_seconds()
            yield Violation(5, deed.pod_name, f"was removed {late:.0f} s after its execution's end")


# --- 6: output is stored before its source is removed ----------------------------------------


def check_output_is_kept(evidence: Evidence) -> list[Violation]:
    """No pod that printed is removed before the result is stored, and the bytes are all there."""
    ended, executions = _ended_at(evidence), evidence.executions()
    printed = {d.pod_name: d for d in evidence.deeds if d.what == "end" and (d.stdout or d.stderr)}
    violations = []
    for deed in evidence.deeds:
        if deed.what != "gone" or deed.pod_name not in printed or deed.by_stranger:
            continue
        if deed.execution_id not in ended or ended[deed.execution_id] > deed.at:
            violations.append(
                Violation(6, deed.pod_name, "was removed before its output was stored")
            )
    for deed in printed.values():
        execution = executions.get(deed.execution_id)
        if execution is not None and execution["status"] == Status.COMPLETED:
            violations += _lost_bytes(deed, execution, evidence.caps.output_kept_bytes)
    return violations


def _lost_bytes(deed: Deed, execution: Document, kept: int) -> Iterator[Violation]:
    for name, data in (("stdout", deed.stdout), ("stderr", deed.stderr)):
        stored = execution.get(name) or b""
        if stored != data[:kept]:
            yield Violation(
                6, deed.execution_id, f"printed {len(data)} bytes of {name}, kept others"
            )
        if bool(execution.get(f"{name}_truncated")) is not (len(data) > kept):
            yield Violation(6, deed.execution_id, f"does not say rightly whether {name} was cut")


# --- 7: depth is a count ---------------------------------------------------------------------


def check_depth_is_a_count(evidence: Evidence) -> list[Violation]:
    """Nothing stores the depth of the queue, and no position or depth that was said is negative."""
    violations = [
        Violation(7, f"{name}/{document['_id']}", f"stores a counter: {field}")
        for name in ("pools", "system_settings")
        for document in evidence.documents.get(name, ())
        for field in document
        if re.search(r"depth|queued|queue_length_now|waiting", field)
    ]
    violations += [
        Violation(7, event.subject, f"was told a depth of {event.data.queue_depth}")
        for event in evidence.events(ExecutionQueued.TYPE)
        if isinstance(event.data, ExecutionQueued)
        and min(event.data.queue_depth, event.data.position) < 0
    ]
    return violations


# --- 8: limits hold at every instant ---------------------------------------------------------


def check_limits(evidence: Evidence) -> list[Violation]:
    """What ran at once, and what one user had waiting, was never over the limits."""
    return [*_running_over(evidence), *_queued_over(evidence), *_slots_leaked(evidence)]


def _running_over(evidence: Evidence) -> Iterator[Violation]:
    caps = evidence.caps
    running: dict[str, Deed] = {}
    for deed in evidence.deeds:
        if deed.what != "create":
            running.pop(deed.pod_name, None)
            continue
        running[deed.pod_name] = deed
        mine = sum(other.user_id == deed.user_id for other in running.values())
        if len(running) > caps.slots:
            yield Violation(8, deed.pod_name, f"is number {len(running)} of {caps.slots} at once")
        if mine > caps.per_user:
            yield Violation(8, deed.user_id, f"has {mine} of {caps.per_user} running at once")
        if sum(other.cpu_millicores for other in running.values()) > caps.cpu_millicores:
            yield Violation(8, deed.pod_name, "takes more processor time than there is")
        if sum(other.memory_bytes for other in running.values()) > caps.memory_bytes:
            yield Violation(8, deed.pod_name, "takes more memory than there is")


def _queued_over(evidence: Evidence) -> Iterator[Violation]:
    """Sweep over the times at which executions entered and left the queue."""
    moves: list[tuple[datetime, int, str]] = []
    for execution in evidence.executions().values():
        left = execution.get("scheduled_at") or execution.get("finished_at")
        moves.append((execution["accepted_at"], 1, execution["user_id"]))
        if left is not None:
            moves.append((left, -1, execution["user_id"]))
    waiting: Counter[str] = Counter()
    for _, step, user_id in sorted(moves):
        waiting[user_id] += step
        if step > 0 and waiting[user_id] > evidence.caps.queued_per_user:
            yield Violation(8, user_id, f"has {waiting[user_id]} executions waiting")
        if step > 0 and waiting.total() > evidence.caps.queue_length:
            yield Violation(8, "queue", f"has {waiting.total()} executions")


def _slots_leaked(evidence: Evidence) -> Iterator[Violation]:
    executions, ended = evidence.executions(), _ended_at(evidence)
    for pool in evidence.documents.get("pools", ()):
        for execution_id in pool.get("holders", {}):
            if execution_id not in executions:
                yield Violation(8, execution_id, "holds a slot and does not exist")
            elif execution_id in ended and (
                evidence.quiet or evidence.at > evidence.due(ended[execution_id], 2 * _MINUTE)
            ):
                yield Violation(8, execution_id, "is over and still holds a slot")


# --- 9: seq has no gap and no repeat ---------------------------------------------------------


def check_history(evidence: Evidence) -> list[Violation]:
    """Per execution the numbers are 1 to n, each event once, and at rest none is missing."""
    by_execution: dict[str, list[Document]] = defaultdict(list)
    for document in evidence.documents.get("events", ()):
        if document.get("seq") is not None:
            by_execution[document["execution_id"]].append(document)
    violations = []
    for execution_id, history in by_execution.items():
        numbers = sorted(document["seq"] for document in history)
        if numbers != list(range(1, len(numbers) + 1)):
            violations.append(Violation(9, execution_id, f"has the numbers {numbers}"))
        if len({document["event_id"] for document in history}) != len(history):
            violations.append(Violation(9, execution_id, "has an event under two numbers"))
    if evidence.quiet:
        violations += _history_missing(evidence, by_execution)
    return violations


def _history_missing(
    evidence: Evidence, by_execution: Mapping[str, Sequence[Document]]
) -> Iterator[Violation]:
    known = {d["event_id"] for history in by_execution.values() for d in history}
    executions = evidence.executions()
    for event in evidence.events():
        if event.topic in _HISTORY and event.subject in executions and event.id not in known:
            yield Violation(9, event.subject, f"lacks a {event.type} in its history")


# --- 10: a stream sees each event once, in order, to the end ---------------------------------


def check_streams(evidence: Evidence) -> list[Violation]:
    """Numbers rise by one over all connections, heartbeats carry none, the end is the last."""
    return [violation for stream in evidence.streams for violation in _stream(stream)]


def _stream(stream: Stream) -> Iterator[Violation]:
    subject = f"{stream.client} on {stream.execution_id}"
    numbers = [int(frame.id) for frame in stream.frames if frame.id and frame.id.isdecimal()]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        yield Violation(10, subject, f"saw an event again or out of order: {numbers}")
    elif not stream.filtered and numbers != list(range(1, len(numbers) + 1)):
        yield Violation(10, subject, f"missed an event: {numbers}")
    if any(frame.id is not None for frame in stream.frames if frame.event_type == "status"):
        yield Violation(10, subject, "was given a number for a message that is no event")
    if stream.complete:
        words = [f.event_type for f in stream.frames if f.name == "message"]
        if not words or words[-1] not in {"result_stored", "result_failed"}:
            yield Violation(10, subject, "was ended before its last event")


# --- 11: one key, one id ---------------------------------------------------------------------


def check_keys(evidence: Evidence) -> list[Violation]:
    """Submits with one key give one execution; another body under that key gives none."""
    keyed: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in evidence.calls:
        if call.operation == "submit" and call.key is not None:
            keyed[call.user_id, call.key].append(call)
    violations = []
    for (user_id, key), calls in keyed.items():
        answered = list(_accepted(calls))
        ids = {call.execution_id for call in answered}
        if len(ids) > 1:
            violations.append(Violation(11, f"{user_id}/{key}", f"gave {len(ids)} executions"))
        if len({call.fingerprint for call in answered}) > 1:
            violations.append(Violation(11, f"{user_id}/{key}", "was accepted with two bodies"))
    return violations


# --- 12: another user's id looks unknown -----------------------------------------------------


def check_foreign_ids(evidence: Evidence) -> list[Violation]:
    """What is answered about somebody else's execution is what is answered about none at all."""
    executions = evidence.executions()
    answers: dict[str, set[tuple[int, str]]] = defaultdict(set)
    violations = []
    for call in evidence.calls:
        if call.operation == "submit" or call.status is None or call.status in _BROKEN:
            continue
        target = executions.get(call.execution_id or "")
        if target is not None and target["user_id"] == call.user_id:
            continue
        answers[call.operation].add((call.status, call.body))
        if _succeeded(call):
            violations.append(
                Violation(12, str(call.execution_id), f"was shown to {call.user_id}, a stranger")
            )
    for operation, seen in answers.items():
        if len(seen) > 1:
            violations.append(
                Violation(12, operation, f"tells foreign from unknown: {sorted(seen)}")
            )
    return violations


# --- 13: a cancel is honoured ----------------------------------------------------------------


def check_cancels(evidence: Evidence) -> list[Violation]:
    """An execution that was asked to end ends cancelled, soon, and prints no more after that."""
    return [
        *_cancels_ignored(evidence),
        *_cancels_late(evidence),
        *_output_after_the_end(evidence),
    ]


def _cancels_ignored(evidence: Evidence) -> Iterator[Violation]:
    executions = evidence.executions()
    promised = {
        call.execution_id
        for call in evidence.calls
        if call.operation == "cancel" and call.acknowledged
    }
    asked = {key for key, each in executions.items() if each.get("cancel_requested_at")}
    for execution_id in sorted(promised | asked, key=str):
        execution = executions.get(str(execution_id))
        if execution is not None and _is_over(execution) and execution["status"] != "cancelled":
            yield Violation(
                13, str(execution_id), f"was cancelled and ended as {execution['status']}"
            )


def _cancels_late(evidence: Evidence) -> Iterator[Violation]:
    within = evidence.caps.cancel_grace + _CANCEL
    ends = {deed.execution_id: deed.at for deed in evidence.deeds if deed.what != "create"}
    made = {deed.execution_id: deed.at for deed in evidence.deeds if deed.what == "create"}
    for deed in reversed(evidence.deeds):
        if deed.what == "end":
            ends[deed.execution_id] = deed.at
    for execution_id, execution in evidence.executions().items():
        asked = execution.get("cancel_requested_at")
        if asked is None or execution_id not in made:
            continue
        due = evidence.due(max(asked, made[execution_id]), within)
        if ends.get(execution_id, evidence.at) > due:
            yield Violation(13, execution_id, "ran on after it was cancelled")


def _output_after_the_end(evidence: Evidence) -> Iterator[Violation]:
    ends = {
        document["execution_id"]: document
        for document in evidence.documents.get("events", ())
        if document["event_type"] == ResultStored.TYPE and document.get("seq") is not None
    }
    for document in evidence.documents.get("events", ()):
        end = ends.get(document.get("execution_id", ""))
        if document["event_type"] != ExecutionOutput.TYPE or end is None:
            continue
        # An end waits for output that is late, but not for ever: the result has all of it anyway.
        waited = document["stored_at"] - document["timestamp"]
        late = waited >= _HELD or evidence.excused(document["timestamp"], document["stored_at"])
        if document["seq"] > end["seq"] and not late and _was_cancelled(evidence, end):
            yield Violation(13, end["execution_id"], "shows output after its end")


def _was_cancelled(evidence: Evidence, end: Document) -> bool:
    execution = evidence.executions().get(end["execution_id"])
    return execution is not None and execution["status"] == Status.CANCELLED


# --- 16: poison is parked and the partition moves on -----------------------------------------


def check_poison(evidence: Evidence) -> list[Violation]:
    """At rest no group lags, and what no function understood is kept, byte for byte."""
    if not evidence.quiet:
        return []
    return [*_lagging(evidence), *_poison_lost(evidence)]


def _lagging(evidence: Evidence) -> Iterator[Violation]:
    for group, positions in evidence.groups.items():
        for place, position in positions.items():
            done = position.start if position.committed is None else position.committed
            if done < position.end:
                yield Violation(
                    16,
                    group,
                    f"is stuck at {done} of {position.end} in {place.topic}/{place.partition}",
                )


def _poison_lost(evidence: Evidence) -> Iterator[Violation]:
    consumed = {place.topic for positions in evidence.groups.values() for place in positions}
    kept = {
        (d["original_topic"], d["partition"], d["offset"]): d
        for d in evidence.documents.get("dead_letters", ())
    }
    for logged in evidence.log:
        record = logged.record
        if logged.understood or record.topic not in consumed - {Topic.DEAD_LETTERS}:
            continue
        if any(name == TARGET for name, _ in record.headers):
            continue  # a copy that was sent for one more try
        found = kept.get((record.topic, record.partition, record.offset))
        where = f"{record.topic}/{record.partition}@{record.offset}"
        if found is None:
            yield Violation(16, where, "was not understood and is not kept")
        elif found["body"] != record.value:
            yield Violation(16, where, "is kept with other bytes")


# --- 17: outboxes drain ----------------------------------------------------------------------


def check_outboxes(evidence: Evidence) -> list[Violation]:
    """No event waits over 30 s to be published, and at rest every beginning is in the log."""
    violations = [
        Violation(17, f"{collection}/{key}", f"keeps a {event.type} since {event.time:%H:%M:%S}")
        for collection, key, event in evidence.outboxes
        if evidence.quiet or evidence.at > evidence.due(event.time, _OUTBOX)
    ]
    if evidence.quiet:
        requested = {event.subject for event in evidence.events(ExecutionRequested.TYPE)}
        violations += [
            Violation(17, execution_id, "was stored and never requested")
            for execution_id in evidence.executions()
            if execution_id not in requested
        ]
    return violations


# --- 18: every failure has a code and a sentence ---------------------------------------------


def check_failures_are_explained(evidence: Evidence) -> list[Violation]:
    """Whoever reads a failure learns its kind, a code, and a sentence; a success has none."""
    violations: list[Violation] = []
    for execution_id, execution in evidence.executions().items():
        if execution["status"] in _FAILURES:
            violations += _unexplained(execution_id, execution)
        elif execution["status"] == Status.COMPLETED and execution.get("error_type"):
            violations.append(Violation(18, execution_id, "is completed and has an error"))
    return violations


def _unexplained(execution_id: str, execution: Document) -> Iterator[Violation]:
    if execution.get("error_type") not in set(ErrorType):
        yield Violation(18, execution_id, f"has the error type {execution.get('error_type')}")
    if not _CODE.fullmatch(str(execution.get("error_code") or "")):
        yield Violation(18, execution_id, f"has the error code {execution.get('error_code')}")
    if not str(execution.get("error_message") or "").strip():
        yield Violation(18, execution_id, "has no sentence that says what happened")


# --- 19: a refused request leaves nothing ----------------------------------------------------


def check_refusals_leave_nothing(evidence: Evidence) -> list[Violation]:
    """There is no execution, slot, saga or key that no accepted request accounts for."""
    return [*_too_many(evidence), *_orphans(evidence)]


def _too_many(evidence: Evidence) -> Iterator[Violation]:
    """A user has no more executions than requests that were accepted, or never answered."""
    allowed: dict[str, set[object]] = defaultdict(set)
    for call in _accepted(evidence.calls):
        allowed[call.user_id].add(call.execution_id)
    answered = {(call.user_id, call.key) for call in _accepted(evidence.calls)}
    for number, call in enumerate(evidence.calls):
        if call.operation != "submit" or call.status in _REFUSED or _succeeded(call):
            continue
        if call.key is None or (call.user_id, call.key) not in answered:
            allowed[call.user_id].add(call.key or number)
    if not any(call.operation == "submit" for call in evidence.calls):
        return
    owners = Counter(each["user_id"] for each in evidence.executions().values())
    for user_id, count in owners.items():
        if count > len(allowed[user_id]):
            yield Violation(
                19, user_id, f"has {count} executions from {len(allowed[user_id])} requests"
            )


def _orphans(evidence: Evidence) -> Iterator[Violation]:
    executions = evidence.executions()
    for collection in ("sagas", "idempotency_keys"):
        for document in evidence.documents.get(collection, ()):
            execution_id = document.get("execution_id")
            if document.get("state") == "running":
                continue  # its id is chosen first: whoever repeats the request takes it up
            if execution_id is not None and execution_id not in executions and evidence.quiet:
                yield Violation(19, f"{collection}/{document['_id']}", "belongs to no execution")


INVARIANTS: Sequence[Invariant] = (
    Invariant(1, "An accepted execution is never lost.", check_accepted_is_kept, read_only=True),
    Invariant(2, "An execution has exactly one end.", check_one_end, read_only=True),
    Invariant(3, "The end comes in time.", check_ends_in_time, read_only=True),
    Invariant(4, "At most one pod is ever made.", check_one_pod, read_only=False),
    Invariant(5, "No pod outlives its execution.", check_nothing_left_behind, read_only=True),
    Invariant(6, "Output is stored before its source goes.", check_output_is_kept, read_only=False),
    Invariant(7, "The depth of the queue is a count.", check_depth_is_a_count, read_only=True),
    Invariant(8, "Limits hold at every instant.", check_limits, read_only=False),
    Invariant(9, "A history has no gap and no repeat.", check_history, read_only=True),
    Invariant(10, "A stream sees everything once, in order.", check_streams, read_only=False),
    Invariant(11, "One key gives one execution.", check_keys, read_only=False),
    Invariant(12, "A foreign id looks unknown.", check_foreign_ids, read_only=False),
    Invariant(13, "A cancel is honoured.", check_cancels, read_only=False),
    Invariant(16, "Poison is parked and work goes on.", check_poison, read_only=False),
    Invariant(17, "Outboxes drain.", check_outboxes, read_only=True),
    Invariant(
        18, "Every failure has a code and a sentence.", check_failures_are_explained, read_only=True
    ),
    Invariant(
        19, "A refused request leaves nothing.", check_refusals_leave_nothing, read_only=False
    ),
)
"""Each rule with the function that judges it."""
