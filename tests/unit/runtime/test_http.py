"""The HTTP host answers so that every sender of CloudEvents knows what to do next."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, NamedTuple

import httpx2
import pytest

from functions.submit.handler import Needs as SubmitNeeds
from functions.submit.handler import Room
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.virtual.clock import VirtualClock
from shared.adapters.virtual.ids import SeededIds
from shared.domain.errors import PermanentError, Refusal, StartupError, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.runtimes import Offer
from shared.events.event import Event
from shared.events.executions import ExecutionSubmit
from shared.events.timers import TimerDue
from shared.events.topics import Topic
from shared.ports.clock import Clock
from shared.ports.collections import COLLECTIONS
from shared.ports.event_log import Record
from shared.ports.functions import FunctionSpec
from shared.runtime.functions import Function, load
from shared.runtime.health import Readiness
from shared.runtime.http import BODY_LIMIT_BYTES, create_app, listen

SUBMIT = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/shop",
    "ce-type": "execution.submit",
    "content-type": "application/json",
}
BODY = b'{"script": "print(1)"}'
STRUCTURED = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "execution.submit",
    "datacontenttype": "application/json",
    "data": {"script": "print(1)"},
}


class Needs(NamedTuple):
    """A clock is enough."""

    clock: Clock


@dataclass
class Recorder:
    """A function that notes what it was given and ends as it is told."""

    ends: list[BaseException | None] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    reconciled: int = 0
    hold: asyncio.Event | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, event: Event, _: Any) -> None:
        """Note an event."""
        self.seen.append(event)
        self.began.set()
        if self.hold is not None:
            await self.hold.wait()
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end

    async def handle_record(self, record: Record, _: Any) -> None:
        """Note a record."""
        self.records.append(record)

    async def reconcile(self, _: Any) -> None:
        """Count."""
        self.reconciled += 1


def spec_of(**changes: Any) -> FunctionSpec:
    """Return a spec that waits for submits and timers, changed."""
    values: dict[str, Any] = {
        "slug": "submit",
        "consumes": (ExecutionSubmit, TimerDue),
        "needs": Needs,
        **changes,
    }
    return FunctionSpec(**values)


def loaded(spec: FunctionSpec, **entries: Any) -> Function:
    """Return a function with some of the entry points that a handler may have."""
    points = [one.name for one in fields(Function) if one.name != "spec"]
    return Function(spec=spec, **(dict.fromkeys(points) | entries))


def function_of(recorder: Recorder, **changes: Any) -> Function:
    """Return the recorder as a loaded function that is woken by events."""
    return loaded(spec_of(**changes), handle=recorder.handle)


class Silent:
    """Publishes nothing; none of these tests looks at what is published."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Forget the events."""


Connect = Callable[..., httpx2.AsyncClient]


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that stands still."""
    return VirtualClock()


@pytest.fixture
def recorder() -> Recorder:
    """Return a function that notes everything."""
    return Recorder()


@pytest.fixture
async def connect(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Return a maker of clients that talk to a function without a network."""
    # The framework writes this one into the environment; the next test must not see it.
    monkeypatch.setenv("FUNCTION_SIGNATURE_TYPE", "http")
    clients: list[httpx2.AsyncClient] = []

    def to(function: Function, needs: Any = None, *, readiness: Readiness | None = None) -> Any:
        app = create_app(function, needs or Needs(clock), clock=clock, readiness=readiness)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
        client = httpx2.AsyncClient(transport=transport, base_url="http://function")
        clients.append(client)
        return client

    yield to
    for client in clients:
        await client.aclose()


async def test_handled_event_is_answered_without_a_body(
    connect: Connect, recorder: Recorder
) -> None:
    """A body would be read as a reply, and one that is no event as a failure."""
    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=BODY)

    assert (answer.status_code, answer.content) == (204, b"")
    assert [event.id for event in recorder.seen] == ["1"]


async def test_any_path_takes_events(connect: Connect, recorder: Recorder) -> None:
    """A sender retries after 404, so no path may answer it."""
    answer = await connect(function_of(recorder)).post("/a/b", headers=SUBMIT, content=BODY)

    assert answer.status_code == 204


async def test_structured_event_is_read(connect: Connect, recorder: Recorder) -> None:
    """Attributes and data may come together in the body."""
    headers = {"content-type": "application/cloudevents+json"}

    answer = await connect(function_of(recorder)).post(
        "/", headers=headers, content=json.dumps(STRUCTURED)
    )

    assert answer.status_code == 204
    assert recorder.seen[0].data.model_extra == {"script": "print(1)"}


async def test_every_event_of_a_batch_is_handled(connect: Connect, recorder: Recorder) -> None:
    """A batch is as good as its events one by one."""
    batch = [{**STRUCTURED, "id": str(number)} for number in range(3)]
    headers = {"content-type": "application/cloudevents-batch+json"}

    answer = await connect(function_of(recorder)).post(
        "/", headers=headers, content=json.dumps(batch)
    )

    assert answer.status_code == 204
    assert [event.id for event in recorder.seen] == ["0", "1", "2"]


async def test_batch_asks_for_a_retry_if_one_event_may_succeed_later(
    connect: Connect, recorder: Recorder
) -> None:
    """What failed for good beside it must not send the whole batch to the dead letters now."""
    recorder.ends = [PermanentError("never"), TemporaryError("later"), None]
    batch = [{**STRUCTURED, "id": str(number)} for number in range(3)]
    headers = {"content-type": "application/cloudevents-batch+json"}

    answer = await connect(function_of(recorder)).post(
        "/", headers=headers, content=json.dumps(batch)
    )

    assert answer.status_code == 503
    assert len(recorder.seen) == 3


@pytest.mark.parametrize(
    ("changes", "body", "status", "code"),
    [
        pytest.param({"ce-id": ""}, BODY, 400, "malformed", id="no id"),
        pytest.param({"ce-specversion": "0.3"}, BODY, 400, "malformed", id="old version"),
        pytest.param({}, b"{broken", 400, "malformed", id="broken JSON"),
        pytest.param({"ce-type": "execution.sumbit"}, BODY, 400, "malformed", id="unknown type"),
        pytest.param({"ce-type": "execution.started"}, BODY, 400, "malformed", id="another's type"),
        pytest.param(
            {"content-type": "application/cloudevents+avro"},
            BODY,
            415,
            "unsupported_media_type",
            id="another format",
        ),
        pytest.param({}, b" " * (BODY_LIMIT_BYTES + 1), 413, "body_too_large", id="too large"),
    ],
)
async def test_what_can_never_succeed_is_not_to_be_retried(
    connect: Connect,
    recorder: Recorder,
    changes: Mapping[str, str],
    body: bytes,
    status: int,
    code: str,
) -> None:
    """The status ends the retries, and the code travels on to the dead letter."""
    client = connect(function_of(recorder))

    answer = await client.post("/", headers={**SUBMIT, **changes}, content=body)

    assert (answer.status_code, answer.headers["kne-errorcode"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert recorder.seen == []


async def test_body_without_a_length_is_counted(connect: Connect, recorder: Recorder) -> None:
    """A sender that streams cannot get around the limit."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=chunks())

    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(PermanentError("no"), 400, "malformed", id="permanent"),
        pytest.param(Refusal("script_too_long", "too long"), 400, "script_too_long", id="refusal"),
        pytest.param(TemporaryError("later"), 503, "unavailable", id="temporary"),
        pytest.param(RuntimeError("bug"), 500, "internal", id="bug"),
    ],
)
async def test_end_of_a_handler_has_its_status(
    connect: Connect, recorder: Recorder, error: Exception, status: int, code: str
) -> None:
    """Errors tell a sender what to do next, as they tell the pump."""
    recorder.ends = [error]

    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=BODY)

    assert (answer.status_code, answer.headers["kne-errorcode"]) == (status, code)


async def test_bug_is_told_to_the_log_only(
    connect: Connect, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong inside is nobody else's business."""
    recorder.ends = [RuntimeError("the secret is 42")]

    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=BODY)

    assert b"42" not in answer.content
    assert "the secret is 42" in caplog.text


async def test_wait_is_given_in_whole_seconds(connect: Connect, recorder: Recorder) -> None:
    """Retry-After knows no fractions, and none may be shorter than what was asked for."""
    recorder.ends = [TemporaryError("later", retry_after=timedelta(milliseconds=1200))]

    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=BODY)

    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("code", "status"), [("user_queue_full", 429), ("queue_full", 503)], ids=["user", "all"]
)
async def test_push_back_keeps_its_status(
    connect: Connect, recorder: Recorder, code: str, status: int
) -> None:
    """A refusal that time heals is pushed back as what it is."""
    error = TemporaryError("full", retry_after=timedelta(seconds=30))
    error.__cause__ = Refusal(code, "full")
    recorder.ends = [error]

    answer = await connect(function_of(recorder)).post("/", headers=SUBMIT, content=BODY)

    assert (answer.status_code, answer.headers["retry-after"]) == (status, "30")


async def test_same_event_in_progress_is_a_conflict(connect: Connect, recorder: Recorder) -> None:
    """A sender that gave up waiting and sends again is asked for patience, not served twice."""
    recorder.hold = asyncio.Event()
    client = connect(function_of(recorder))
    first = asyncio.create_task(client.post("/", headers=SUBMIT, content=BODY))
    await recorder.began.wait()

    second = await client.post("/", headers=SUBMIT, content=BODY)
    recorder.hold.set()

    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert (await first).status_code == 204


async def test_handler_without_end_is_pushed_back(connect: Connect, recorder: Recorder) -> None:
    """The time limit of the spec holds here too."""
    recorder.hold = asyncio.Event()
    function = function_of(recorder, time_limit=timedelta(milliseconds=10))

    answer = await connect(function).post("/", headers=SUBMIT, content=BODY)

    assert answer.status_code == 503


@pytest.mark.parametrize(
    "extension",
    [{"ce-replayid": "r1"}, {"ce-dlqtarget": "notify"}],
    ids=["replayed", "another's retry"],
)
async def test_event_that_is_not_meant_is_done(
    connect: Connect, recorder: Recorder, extension: Mapping[str, str]
) -> None:
    """As in the pump: a replay is inert, a retry is for the function that failed."""
    client = connect(function_of(recorder))

    answer = await client.post("/", headers={**SUBMIT, **extension}, content=BODY)

    assert answer.status_code == 204
    assert recorder.seen == []


async def test_timer_of_another_function_is_done(connect: Connect, recorder: Recorder) -> None:
    """All timers share a type; each has one target."""
    due = {
        "timer_id": "t",
        "target": "saga-step",
        "kind": "deadline",
        "key": "k",
        "due_at": "2026-01-01T00:00:00Z",
    }
    client = connect(function_of(recorder))

    answer = await client.post(
        "/", headers={**SUBMIT, "ce-type": "timer.due"}, content=json.dumps(due)
    )

    assert answer.status_code == 204
    assert recorder.seen == []


async def test_dead_letter_of_a_broker_becomes_a_record_of_ours(
    connect: Connect, recorder: Recorder
) -> None:
    """Both kinds of dead letters are kept by one function, under the name of who failed."""
    function = loaded(
        spec_of(slug="retry-dead-letters", whole_topics=(Topic.DEAD_LETTERS,), raw=True),
        handle=recorder.handle,
        handle_record=recorder.handle_record,
    )
    failed = {
        "ce-knativeerrordest": "http://submit.integr8s.svc.cluster.local",
        "ce-knativeerrorcode": "400",
    }

    answer = await connect(function).post("/", headers={**SUBMIT, **failed}, content=BODY)

    assert answer.status_code == 204
    headers = dict(recorder.records[0].headers)
    assert headers["dlqfunction"] == b"submit"
    assert headers["dlqtopic"] == b"execution_submissions"
    assert headers["ce_type"] == b"execution.submit"
    assert recorder.records[0].value == BODY


async def test_tick_reconciles_a_function_that_watches(
    connect: Connect, recorder: Recorder
) -> None:
    """A function that watches a cluster cannot be posted a fact; any event makes it look."""
    spec = spec_of(wakes="cluster", consumes=())
    function = loaded(spec, reconcile=recorder.reconcile)

    answer = await connect(function).post("/", headers={**SUBMIT, "ce-type": "tick"}, content=b"{}")

    assert answer.status_code == 204
    assert recorder.reconciled == 1


def clocked(rounds: Sequence[Exception | None]) -> tuple[Function, list[int]]:
    """Return a function that is awake by the clock, and the rounds that it began."""
    begun: list[int] = []

    async def run(needs: Needs) -> None:
        while True:
            begun.append(len(begun))
            problem = rounds[len(begun) - 1]
            try:
                if problem is not None:
                    raise problem
            except TemporaryError as error:
                await needs.clock.sleep(error.retry_after)
                continue
            await needs.clock.sleep(timedelta(seconds=1))

    return loaded(spec_of(wakes="clock", consumes=()), run=run), begun


async def test_tick_runs_one_round_of_a_function_with_a_clock(connect: Connect) -> None:
    """It does what is due, and its first pause ends the round."""
    function, begun = clocked([None])

    answer = await connect(function).post("/", headers={**SUBMIT, "ce-type": "tick"}, content=b"{}")

    assert answer.status_code == 204
    assert begun == [0]


async def test_round_that_met_an_absent_engine_is_pushed_back(connect: Connect) -> None:
    """A pause for want of an engine is not the pause of work that is done."""
    function, _ = clocked([TemporaryError("away", retry_after=timedelta(seconds=3))])

    answer = await connect(function).post("/", headers={**SUBMIT, "ce-type": "tick"}, content=b"{}")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize("path", ["/health/live", "/health/liveness"])
async def test_liveness_touches_nothing(connect: Connect, recorder: Recorder, path: str) -> None:
    """A process that turns is alive, whatever is down around it."""

    async def down() -> Mapping[str, str]:
        return {"documents": "down"}

    answer = await connect(function_of(recorder), readiness=down).get(path)

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health/ready", "/health/readiness"])
@pytest.mark.parametrize(
    ("state", "status", "word"),
    [("ok", 200, "ready"), ("degraded", 200, "degraded"), ("down", 503, "unready")],
)
async def test_readiness_is_that_of_the_engines(
    connect: Connect, recorder: Recorder, path: str, state: str, status: int, word: str
) -> None:
    """Both spellings of the path; only an engine that is down stops the traffic."""

    async def engines() -> Mapping[str, str]:
        return {"documents": state}

    answer = await connect(function_of(recorder), readiness=engines).get(path)

    assert (answer.status_code, answer.json()["status"]) == (status, word)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_named_wrong(
    connect: Connect, recorder: Recorder, method: str
) -> None:
    """Events are posted."""
    answer = await connect(function_of(recorder)).request(method, "/")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_application_reconciles_from_its_start_and_regularly(
    clock: VirtualClock, recorder: Recorder
) -> None:
    """A replica behind HTTP has the same upkeep as one behind a pump, and stops with it."""
    spec = spec_of(reconcile_every=timedelta(minutes=1))
    app = create_app(
        loaded(spec, handle=recorder.handle, reconcile=recorder.reconcile),
        Needs(clock),
        clock=clock,
    )
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    said: list[str] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    life = asyncio.create_task(
        _call(app, {"type": "lifespan"}, told.get, send), name="life of the application"
    )
    await told.put({"type": "lifespan.startup"})
    await clock.advance(timedelta(minutes=2))
    await told.put({"type": "lifespan.shutdown"})
    await life

    assert recorder.reconciled == 3
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def _call(app: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    await app(*arguments)


async def test_submit_accepts_a_posted_event_once(connect: Connect, clock: VirtualClock) -> None:
    """The real function on stores in memory: a redelivered event makes no second execution."""
    store = SqliteStore()
    collections = {
        name: SqliteDocuments(store, COLLECTIONS[name], clock)
        for name in ("executions", "idempotency_keys")
    }
    submit = load("submit")
    needs = SubmitNeeds(
        executions=collections["executions"],
        idempotency_keys=collections["idempotency_keys"],
        publisher=Silent(),
        clock=clock,
        ids=SeededIds(1, clock),
        offer=Offer({"python": ("3.11",)}),
        settings=ExecutionSettings(),
        room=Room(),
    )
    client = connect(submit, needs)

    answers = [await client.post("/", headers=SUBMIT, content=BODY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert await collections["executions"].count({}) == 1
    await store.close()


def test_port_in_use_is_one_sentence_and_a_remedy() -> None:
    """Noticed before anything is started."""
    with listen("127.0.0.1", 0) as taken, pytest.raises(StartupError, match="is in use") as refused:
        listen("127.0.0.1", taken.getsockname()[1])

    assert "INTEGR8S_PORT" in refused.value.remedy


def test_address_of_another_machine_is_refused() -> None:
    """192.0.2.0/24 belongs to nobody."""
    with pytest.raises(StartupError, match=r"192\.0\.2\.1") as refused:
        listen("192.0.2.1", 0)

    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EADDRNOTAVAIL
