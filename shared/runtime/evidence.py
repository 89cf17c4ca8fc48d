"""What can be known of a system, as plain values, for the invariants to be judged by.

A test gathers all of it; `doctor` what a live system shows: documents, topics, groups and pods.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from shared.domain.errors import MalformedEvent
from shared.domain.executions import QUEUE_LENGTH, QUEUE_LIMIT, QUEUED_PER_USER
from shared.events.codec import UnknownType, decode
from shared.events.event import Event
from shared.events.topics import Topic
from shared.ports.cluster import Pod
from shared.ports.documents import Document, Documents, Leftovers
from shared.ports.event_log import EventLog, Position, Record, TopicPartition


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the log, and the event in it; None where it is no event of ours."""

    record: Record
    event: Event | None
    understood: bool = True
    """False where the bytes are no event at all; True also for one of a type that is not ours."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that really happened to a pod, by the word of the cluster itself."""

    at: datetime
    what: Literal["create", "end", "gone"]
    """`create`: an object was made, which is not said of a repeated call. `end`: its script no
    longer runs. `gone`: the object, and with it the only copy of its output, was removed."""
    pod_name: str
    execution_id: str
    user_id: str = ""
    cpu_millicores: int = 0
    memory_bytes: int = 0
    stdout: bytes = b""
    """At `end`: every byte that the script printed."""
    stderr: bytes = b""
    by_stranger: bool = False
    """Of `gone`: somebody else removed it; nobody can keep the output of such a pod."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client, and what it was answered."""

    at: datetime
    operation: Literal["submit", "cancel", "read"]
    user_id: str
    status: int | None
    """None where no answer came: it may or may not have happened."""
    execution_id: str | None = None
    """Of a submit: what was answered. Else: what was asked for."""
    script: str | None = None
    key: str | None = None
    """The idempotency key that was sent."""
    fingerprint: str = ""
    """Of the body; two submits with one key and another fingerprint are no repetition."""
    body: str = ""
    """The answer, with ids and times blanked."""
    acknowledged: bool = False
    """Of a cancel: the answer promised the end of an execution that was not over yet."""
    outcome: str | None = None
    """Of a read: the terminal result that was shown, in a canonical form; None before the end."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream."""

    id: str | None
    name: str = "message"
    event_type: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """All frames that one client saw of one execution, its connections joined."""

    client: str
    execution_id: str
    frames: tuple[Frame, ...]
    complete: bool
    """Whether the client went on until the server ended it."""
    filtered: bool = False
    """Whether some families of events were left out, so that numbers may be skipped."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A time in which something that was needed was away or misbehaving."""

    what: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Caps:
    """The limits that were in force."""

    slots: int = 10
    per_user: int = 5
    cpu_millicores: int = 32_000
    memory_bytes: int = 64 * 1024**3
    queue_length: int = QUEUE_LENGTH
    queued_per_user: int = QUEUED_PER_USER
    queue_limit: timedelta = QUEUE_LIMIT
    output_kept_bytes: int = 512 * 1024
    cancel_grace: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the invariants are judged by; what is not known is left empty."""

    at: datetime
    """When it was gathered."""
    documents: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    """By collection, each with its key under `_id`."""
    outboxes: Sequence[tuple[str, str, Event]] = ()
    """Events not delivered yet: collection, key, event."""
    log: Sequence[Logged] = ()
    """Every topic from its oldest record to its end; per partition in order."""
    groups: Mapping[str, Mapping[TopicPartition, Position]] = field(default_factory=dict)
    pods: Sequence[Pod] = ()
    """What exists in the cluster now."""
    deeds: Sequence[Deed] = ()
    """In order of time."""
    calls: Sequence[Call] = ()
    streams: Sequence[Stream] = ()
    faults: Sequence[Fault] = ()
    caps: Caps = field(default_factory=Caps)
    quiet: bool = False
    """Whether everything had come to rest, so that what is missing now will not come any more."""

    def events(self, *types: str) -> Iterable[Event]:
        """Yield the events of some types, each once, however often it was delivered or replayed."""
        seen: set[str] = set()
        for logged in self.log:
            event = logged.event
            if event is None or event.replay_id is not None or event.id in seen:
                continue
            if not types or event.type in types:
                seen.add(event.id)
                yield event

    def executions(self) -> Mapping[str, Document]:
        """Return the executions by id."""
        return {document["_id"]: document for document in self.documents.get("executions", ())}

    def excused(self, start: datetime, end: datetime) -> timedelta:
        """Return for how long between two instants something that was needed was away."""
        spans = sorted(
            (max(fault.start, start), min(fault.end, end))
            for fault in self.faults
            if fault.start < end and fault.end > start
        )
        total, reached = timedelta(0), start
        for first, last in spans:
            total += max(last - max(first, reached), timedelta(0))
            reached = max(reached, last)
        return total

    def due(self, since: datetime, within: timedelta) -> datetime:
        """Return until when something had to happen; time without an engine does not count.

        After the last healing there is always as long as without any fault, up to a minute.
        """
        due = since + within
        while (late := since + within + self.excused(since, due)) > due:
            due = late
        grace = min(within, timedelta(seconds=60))
        healed = [fault.end for fault in self.faults if since <= fault.end <= due]
        return max([due, *(instant + grace for instant in healed)])


class _Collection(Documents, Leftovers, Protocol):
    """A collection with its outboxes."""


async def gather(
    collections: Mapping[str, _Collection],
    log: EventLog,
    *,
    groups: Mapping[str, Sequence[Topic]],
    pods: Sequence[Pod],
    at: datetime,
) -> Evidence:
    """Read what a live system shows. Writes nothing, joins nothing.

    Raises:
        TemporaryError: An engine gave no answer.
    """
    documents = {name: await collection.find() for name, collection in collections.items()}
    outboxes = [
        (name, key, event)
        for name, collection in collections.items()
        for key, events in await collection.leftovers(before=at, limit=100_000)
        for event in events
    ]
    return Evidence(
        at=at,
        documents=documents,
        outboxes=outboxes,
        log=[logged for topic in Topic for logged in await _read(log, topic)],
        groups={group: await log.positions(group, topics) for group, topics in groups.items()},
        pods=pods,
    )


async def _read(log: EventLog, topic: Topic) -> list[Logged]:
    """Read one topic from its oldest record to its present end."""
    found: list[Logged] = []
    for place, position in (await log.positions("", [topic])).items():
        offset = position.start
        while offset < position.end and (
            records := await log.read(place, offset=offset, limit=1000)
        ):
            found += [_logged(record) for record in records]
            offset = records[-1].offset + 1
    return found


def _logged(record: Record) -> Logged:
    try:
        return Logged(record, decode(record.key, record.headers, record.value))
    except UnknownType:
        return Logged(record, None)
    except MalformedEvent:
        return Logged(record, None, understood=False)
