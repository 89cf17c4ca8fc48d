"""Values for tests: a small world without machines, and documents, events and pods to put in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.submit import rules as submit_rules
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.virtual.clock import VirtualClock
from shared.adapters.virtual.ids import SeededIds
from shared.domain.errors import PermanentError, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import Priority
from shared.domain.runtimes import Offer
from shared.domain.tracing import new_traceparent
from shared.events.event import Event, Payload
from shared.ports.cluster import Pod, PodEnd, PodOutput, PodPhase, Stream
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Collection, Document

START = datetime(2026, 1, 1, tzinfo=UTC)
EXECUTION_ID = "0198c0de-0000-7000-8000-000000000001"
USER_ID = "user-1"
TRACEPARENT = new_traceparent(EXECUTION_ID)


def seconds(count: float) -> timedelta:
    """Return a duration."""
    return timedelta(seconds=count)


class Said:
    """A Publisher that keeps what was said; it can refuse a while, or some events for ever."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.events: list[Event] = []
        self.away = 0
        self.largest = 1 << 62

    async def publish(self, events: Sequence[Event]) -> None:
        """Keep the events."""
        if self.away:
            self.away -= 1
            raise TemporaryError("the log is away")
        if any(len(event.data.model_dump_json()) > self.largest for event in events):
            raise PermanentError("too large")
        self.events += events

    @property
    def types(self) -> list[str]:
        """Return the types of what was said, in order."""
        return [event.type for event in self.events]


class Counted:
    """A collection whose calls are counted, and may take their time or fail."""

    def __init__(
        self, inner: Any, clock: VirtualClock, *, pauses: Mapping[str, timedelta] | None = None
    ) -> None:
        """Hand on to a collection; `pauses` says how long before which calls."""
        self._inner, self._clock, self._pauses = inner, clock, pauses or {}
        self.calls: Counter[str] = Counter()
        self.failing: Counter[str] = Counter()
        """How many of the next calls, by their names, give no answer."""

    def __getattr__(self, name: str) -> Any:
        """Return the collection's call of that name, watched."""
        call = getattr(self._inner, name)

        async def watched(*arguments: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in self._pauses:
                await self._clock.sleep(self._pauses[name])
            if self.failing[name]:
                self.failing[name] -= 1
                raise TemporaryError("no answer")
            return await call(*arguments, **named)

        return watched


class World:
    """Every collection in memory, a clock that stands, and what was published."""

    def __init__(self) -> None:
        """Begin empty; needs a running event loop."""
        self.clock = VirtualClock(START)
        self.ids = SeededIds(1, self.clock)
        self.store = SqliteStore()
        self.log = SqliteEventLog(self.store, self.clock)
        self.said = Said()
        self.settings = ExecutionSettings()
        self.offer = Offer()
        self._collections: dict[str, SqliteDocuments] = {}

    def documents(self, name: str) -> SqliteDocuments:
        """Return a collection."""
        if name not in self._collections:
            collection = COLLECTIONS.get(name, Collection(name))
            self._collections[name] = SqliteDocuments(self.store, collection, self.clock)
        return self._collections[name]

    async def emitted(self, name: str) -> list[Event]:
        """Return what the documents of a collection emitted, in order of writing."""
        later = self.clock.now() + timedelta(days=1)
        left = await self.documents(name).leftovers(before=later, limit=1000)
        return [event for _, events in left for event in events]

    async def add_execution(self, **changes: Any) -> Document:
        """Store an execution."""
        document = execution(**changes)
        return await self.documents("executions").insert(document["execution_id"], document)

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()


def request(**fields: Any) -> dict[str, Any]:
    """Return the body of a request."""
    return {"script": "print('hi')", **fields}


def order(**fields: Any) -> submit_rules.Order:
    """Return a valid order of a user who may anything."""
    return submit_rules.order(
        request(**fields), offer=Offer(), settings=ExecutionSettings(), may_raise_priority=True
    )


def execution(
    execution_id: str = EXECUTION_ID,
    *,
    user_id: str = USER_ID,
    at: datetime = START,
    priority: Priority = Priority.NORMAL,
    **changes: Any,
) -> dict[str, Any]:
    """Return the document of an accepted execution, with some fields as given."""
    document = submit_rules.execution_document(
        order(priority=priority.value),
        execution_id=execution_id,
        user_id=user_id,
        at=at,
        settings=ExecutionSettings(),
        trace={"correlation_id": "request-1", "traceparent": TRACEPARENT},
    )
    return {**document, **changes}


def execution_id(number: int) -> str:
    """Return the id of one of several executions."""
    return f"{EXECUTION_ID[:-4]}{number:04d}"


def event(
    data: Payload,
    *,
    subject: str = EXECUTION_ID,
    event_id: str | None = None,
    source: str = "/integr8s/test",
    at: datetime = START,
    **more: Any,
) -> Event:
    """Return an event; its id follows from its type unless given."""
    return Event(
        id=event_id or f"{data.TYPE}:{subject}",
        source=source,
        subject=subject,
        time=at,
        data=data,
        correlation_id="request-1",
        traceparent=TRACEPARENT,
        **more,
    )


def pod(
    phase: PodPhase = PodPhase.PENDING, *, execution_id: str = EXECUTION_ID, **more: Any
) -> Pod:
    """Return a pod as a cluster shows it."""
    fields: dict[str, Any] = {"created_at": START, **more}
    return Pod(
        name=f"exec-{execution_id}",
        uid=f"uid-{execution_id}",
        execution_id=execution_id,
        phase=phase,
        **fields,
    )


def ended(end: PodEnd, **more: Any) -> Pod:
    """Return a pod that ran and ended."""
    times = {"started_at": START + seconds(1), "ended_at": START + seconds(2)}
    return pod(PodPhase.ENDED, end=end, **{**times, **more})


def printed(
    data: bytes, *, stream: Stream = "stdout", offset: int = 0, truncated: bool = False
) -> PodOutput:
    """Return a chunk of live output."""
    return PodOutput(
        name=f"exec-{EXECUTION_ID}",
        uid=f"uid-{EXECUTION_ID}",
        execution_id=EXECUTION_ID,
        stream=stream,
        offset=offset,
        data=data,
        truncated=truncated,
    )
