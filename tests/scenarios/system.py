"""The whole function set in one process, on virtual time, with scripted pods.

Handlers, pumps, outboxes, log and documents are the real ones. Each function runs as a process of
its own: it has its own ports, memory and tasks, can be killed at any moment, and started again.
"""

import asyncio
import contextvars
import functools
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from functions.submit.handler import Needs as SubmitNeeds
from functions.submit.handler import Request, submit
from shared.adapters.scripted.cluster import Deed as ScriptedDeed
from shared.adapters.scripted.cluster import Play, ScriptedCluster
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.domain.errors import Integr8sError, Refusal, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.executions import NOT_TERMINAL, TERMINAL
from shared.domain.problems import PROBLEMS
from shared.domain.quantities import memory_bytes, millicores
from shared.domain.runtimes import Offer
from shared.domain.tracing import new_traceparent
from shared.events.event import Event
from shared.events.executions import ExecutionCancelRequested
from shared.events.origins import of_execution
from shared.events.topics import Topic
from shared.ports.cluster import PodSpec
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Document
from shared.ports.event_log import Consumer, NewRecord
from shared.runtime.autoscaler import Autoscaler
from shared.runtime.evidence import Call, Caps, Deed, Evidence, Fault, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.outbox import Outbox
from shared.runtime.ports import Ports
from shared.runtime.replica import Replica
from shared.runtime.scaling import ScaledObject
from shared.runtime.scaling import load as load_manifests
from tests.virtual_time import CountedIds, LoopClock

FUNCTIONS = tuple(slug for slug in SLUGS if slug != "submit")
MACHINE = "machine"
KEDA = Path(__file__).parents[2] / "keda"
_PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)
Invoke = Callable[[], Awaitable[Any]]
T = TypeVar("T")


@functools.cache
def _manifests() -> Mapping[str, ScaledObject]:
    return load_manifests(KEDA)


class Interference(Protocol):
    """Stands between every process and its ports."""

    async def around(self, process: "Process", operation: str, call: Invoke) -> Any:
        """Do the call, or something worse."""


class Undisturbed:
    """Lets every call through."""

    async def around(self, process: "Process", operation: str, call: Invoke) -> Any:
        """Do the call."""
        del process, operation
        return await call()


class _Port:
    """A port as one process sees it: each call goes past the interference, none after its death."""

    def __init__(self, inner: Any, name: str, process: "Process") -> None:
        self._inner, self._name, self._process = inner, name, process

    def __getattr__(self, operation: str) -> Any:
        attribute = getattr(self._inner, operation)
        if not asyncio.iscoroutinefunction(attribute):
            return attribute

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._process.call(
                f"{self._name}.{operation}", lambda: attribute(*arguments, **named)
            )

        return call


class _Log(_Port):
    """The log as one process sees it; its consumers leave when the process dies."""

    async def join(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join, and remember the membership."""
        self._process.ensure_alive()
        consumer = await self._inner.join(group, topics)
        self._process.consumers.append(consumer)
        return _Port(consumer, "consumer", self._process)


@dataclass(slots=True)
class MemorySignals:
    """Signals of one process, gone with it; whoever looks may see what was published."""

    published: list[tuple[str, bytes]] = field(default_factory=list)

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Keep the messages."""
        self.published += messages


class Process:
    """One running replica of a function, or of the gateway."""

    def __init__(self, system: "System", slug: str) -> None:
        """Give it ports of its own."""
        self.system, self.slug = system, slug
        self.number = next(system.numbers)
        self.dead = False
        self.consumers: list[Consumer] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in order, which a set has not
        self.replica: Replica | None = None
        self.main: asyncio.Task[None] | None = None
        log = _Log(system.log, "log", self)
        self.outbox = Outbox(
            log,
            system.clock,
            lambda name: _Port(system.collections[name], name, self),
        )
        for name in COLLECTIONS:
            self.outbox.documents(name)
        self.ports = Ports(
            log=log,
            outbox=self.outbox,
            signals=_Port(system.signals, "signals", self),
            cluster=_Port(system.cluster, "cluster", self),
            clock=system.clock,
            ids=system.ids,
            offer=Offer(),
            settings=system.settings,
        )

    def __str__(self) -> str:
        return f"{self.slug}#{self.number}{' dead' * self.dead}"

    def ensure_alive(self) -> None:
        """Stop whoever still runs in a process that is dead."""
        if self.dead:
            raise asyncio.CancelledError

    async def call(self, operation: str, call: Invoke) -> Any:
        """Make one call of a port."""
        self.ensure_alive()
        if operation.partition(".")[0] in self.system.away:
            await self.system.clock.sleep(timedelta(milliseconds=20))
            raise TemporaryError(f"{operation}: away")
        result = await self.system.interference.around(self, operation, call)
        self.ensure_alive()
        return result

    def run(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as part of this process: it dies with it, and so does what it starts."""
        context = contextvars.Context()
        context.run(_PROCESS.set, self)
        return asyncio.get_running_loop().create_task(main, context=context)

    def start(self) -> None:
        """Start the function, the way the runtime does."""
        self.main = self.run(self._machine() if self.slug == MACHINE else self._main())

    async def _main(self) -> None:
        self.replica = Replica(self.slug, self.ports)

    async def _machine(self) -> None:
        """Run every function in this one process, from zero, as one machine does."""
        autoscaler = Autoscaler(_manifests(), self.ports)
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()

        def poke(topics: set[str]) -> None:
            if not self.dead:
                loop.call_soon(autoscaler.poke, topics, context=context)

        self.system.log.listen(poke)
        autoscaler.start()

    def kill(self) -> None:
        """Die at once: tasks and memory are gone, what was written stays."""
        self.dead = True
        self.leave()
        for task in tuple(self.tasks):
            task.cancel()

    def leave(self) -> None:
        """Let the group know that this member is gone; a zombie goes on without knowing it."""
        for consumer in self.consumers:
            # In a context of its own: as a task of this process it would die with it.
            _ = asyncio.get_running_loop().create_task(
                consumer.close(), context=contextvars.Context()
            )
        self.consumers.clear()


def _task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> "asyncio.Task[Any]":
    """Make a task that belongs to the process that started it."""
    context = options.get("context")
    process = context.get(_PROCESS) if context is not None else _PROCESS.get()
    task = asyncio.Task(coroutine, loop=loop, **options)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
    return task


class _Bugs(logging.Handler):
    """Takes note of errors that are no error of ours: a handler that raises one has a bug."""

    def __init__(self, system: "System") -> None:
        super().__init__(logging.ERROR)
        self.system = system

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error."""
        if record.exc_info and isinstance(record.exc_info[1], Exception):
            self.system.note_bug(record.exc_info[1])


class System:
    """Everything that a cluster of integr8s is, without the machines."""

    def __init__(
        self,
        *,
        settings: ExecutionSettings | None = None,
        policy: Callable[[PodSpec], Play] | None = None,
        interference: Interference | None = None,
        chance: random.Random | None = None,
        embedded: bool = False,
    ) -> None:
        """Build the engines; no function runs yet. Needs a running virtual loop.

        `embedded` puts all functions into one process, where an autoscaler starts and stops them.
        """
        self.slugs = (MACHINE,) if embedded else FUNCTIONS
        self.numbers = itertools.count(1)
        self.settings = settings or ExecutionSettings()
        self.interference = interference or Undisturbed()
        self.away: set[str] = set()
        """Ports that answer nobody: `log`, `consumer`, `cluster`, or the name of a collection."""
        self.clock, self.ids = LoopClock(), CountedIds()
        self.store = SqliteStore()
        self.log = SqliteEventLog(self.store, self.clock)
        self.collections = {
            name: SqliteDocuments(self.store, collection, self.clock)
            for name, collection in COLLECTIONS.items()
        }
        self.cluster = ScriptedCluster(self.clock, policy)
        self.signals = MemorySignals()
        self.processes: dict[str, Process] = {}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.bugs: list[Exception] = []
        self.chance = chance or random.Random(0)  # noqa: S311 - reproducible
        self.stopped = False
        asyncio.get_running_loop().set_task_factory(_task_factory)
        self._bugs = _Bugs(self)
        self._logger = logging.getLogger("shared")
        self._logger.addHandler(self._bugs)
        self._logger.propagate = False
        self.gateway = Process(self, "gateway")

    def note_bug(self, error: Exception) -> None:
        """Keep an error that should never have been raised."""
        if not isinstance(error, Integr8sError):
            self.bugs.append(error)

    def start(self, *slugs: str) -> None:
        """Start functions, all of them unless named."""
        for slug in slugs or self.slugs:
            self.processes[slug] = Process(self, slug)
            self.processes[slug].start()

    def kill(self, *slugs: str) -> None:
        """Kill functions, all of them unless named."""
        for slug in slugs or self.slugs:
            process = self.processes.pop(slug, None)
            if process is not None:
                process.kill()

    def crash(self, process: Process) -> None:
        """Kill a process; its group may learn of it late, its successor starts a little later."""
        if process.dead:
            return
        process.kill()
        again = self.chance.uniform(0, 3)
        _ = asyncio.get_running_loop().call_later(again, self._succeed, process)

    def _succeed(self, process: Process) -> None:
        if self.stopped:
            return
        if process is self.gateway:
            self.gateway = Process(self, "gateway")
        elif self.processes.get(process.slug) is process:
            self.start(process.slug)

    def heal(self) -> None:
        """Bring back every engine, and a process for every function."""
        self.away.clear()
        if self.gateway.dead:
            self.gateway = Process(self, "gateway")
        for slug in self.slugs:
            process = self.processes.get(slug)
            if process is None or process.dead:
                self.start(slug)

    async def stop(self) -> None:
        """Kill everything and free what was opened."""
        self.stopped = True
        self.kill()
        self.gateway.kill()
        await self.cluster.close()
        await asyncio.sleep(0)  # noqa: TID251 - lets cancelled tasks end
        await self.store.close()
        self._logger.removeHandler(self._bugs)
        self._logger.propagate = True

    # --- what clients do -------------------------------------------------------------------------

    async def submit(
        self,
        script: str = "print('hi')",
        *,
        user: str = "anna",
        key: str | None = None,
        priority: str = "normal",
        timeout: int = 30,
        may_raise_priority: bool = True,
    ) -> Call:
        """Ask for an execution, as the gateway hands it on; return the ledger's entry."""
        body = {"script": script, "timeout_seconds": timeout, "priority": priority}
        request_id = self.ids.new()
        request = Request(
            body=body,
            user_id=user,
            may_raise_priority=may_raise_priority,
            correlation_id=request_id,
            traceparent=new_traceparent(request_id),
            idempotency_key=key,
        )
        asked = Call(
            at=self.clock.now(),
            operation="submit",
            user_id=user,
            status=None,
            script=script,
            key=key,
            fingerprint=str(sorted(body.items())),
        )
        return await self._ask(asked, self._submit(request, asked))

    async def _submit(self, request: Request, asked: Call) -> Call:
        try:
            accepted = await submit(request, self.gateway.ports.fill(SubmitNeeds))
        except Refusal as refusal:
            return replace(asked, status=PROBLEMS[refusal.code].status, body=refusal.code)
        return replace(asked, status=200, execution_id=accepted.execution_id)

    async def _ask(self, asked: Call, work: Coroutine[Any, Any, Call]) -> Call:
        """Let the gateway do the work; where it dies or an engine is away, there is no answer."""
        task = self.gateway.run(work)
        answered = asked
        try:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                answered = task.result()
            elif not task.cancelled() and isinstance(error := task.exception(), Exception):
                self.note_bug(error)
        finally:
            # Also if the client gives up: what it sent was sent.
            self.calls.append(answered)
        return answered

    async def cancel(
        self, execution_id: str, *, user: str = "anna", reason: str | None = None
    ) -> Call:
        """Ask for the end of an execution: one compare-and-set, and the event that tells of it."""
        asked = Call(
            at=self.clock.now(),
            operation="cancel",
            user_id=user,
            status=None,
            execution_id=execution_id,
        )
        return await self._ask(asked, self._cancel(asked, execution_id, user, reason))

    async def _cancel(self, asked: Call, execution_id: str, user: str, reason: str | None) -> Call:
        executions = self.gateway.outbox.documents("executions")
        execution = await executions.get(execution_id)
        if execution is None or execution["user_id"] != user:
            return replace(asked, status=404, body="not_found")
        now = self.clock.now()
        cancelled = await executions.change(
            execution_id,
            when={"status": NOT_TERMINAL, "cancel_requested_at": None},
            set={
                "cancel_requested_at": now,
                "cancelled_by": user,
                "cancel_reason": reason,
                "updated_at": now,
            },
            emit=[self._cancel_event(execution, user, reason)],
        )
        return replace(asked, status=200, acknowledged=cancelled is not None)

    def _cancel_event(self, execution: Document, user: str, reason: str | None) -> Event:
        data = ExecutionCancelRequested(
            execution_id=execution["execution_id"],
            user_id=execution["user_id"],
            cancelled_by=user,
            reason=reason,
        )
        return of_execution(execution, data, source="/integr8s/gateway", at=self.clock.now())

    async def read(self, execution_id: str, *, user: str = "anna") -> Call:
        """Look at an execution, as its owner or somebody else."""
        asked = Call(
            at=self.clock.now(),
            operation="read",
            user_id=user,
            status=None,
            execution_id=execution_id,
        )
        execution = await self.collections["executions"].get(execution_id)
        if execution is None or execution["user_id"] != user:
            return self._note(replace(asked, status=404, body="not_found"))
        outcome = None
        if execution["status"] in TERMINAL:
            shown = ("status", "stdout", "stderr", "exit_code", "error_type", "error_code")
            outcome = repr([execution.get(name) for name in shown])
        return self._note(replace(asked, status=200, outcome=outcome))

    def _note(self, call: Call) -> Call:
        self.calls.append(call)
        return call

    # --- looking at it ---------------------------------------------------------------------------

    async def execution(self, execution_id: str) -> Document:
        """Return an execution's document, which must exist."""
        found = await self.collections["executions"].get(execution_id)
        assert found is not None, f"{execution_id} is lost"
        return found

    async def status(self, execution_id: str) -> str:
        """Return an execution's status."""
        return str((await self.execution(execution_id))["status"])

    async def history(self, execution_id: str) -> list[str]:
        """Return the types of an execution's events in the order of their numbers."""
        found = await self.collections["events"].find(
            {"execution_id": execution_id}, sort=[("seq", 1)]
        )
        return [event["event_type"] for event in found]

    def deeds(self, what: str) -> int:
        """Return how often something happened to a pod."""
        return sum(deed.what == what for deed in self.cluster.ledger)

    def new_gateway(self) -> Process:
        """Return another gateway process."""
        return Process(self, "gateway")

    def fault(self, what: str, begun: datetime) -> None:
        """Note that something was away until now."""
        self.faults.append(Fault(what, begun, self.clock.now()))

    async def accepted(self, script: str = "print('hi')", **options: Any) -> str:
        """Submit, and return the id of what was accepted."""
        call = await self.submit(script, **options)
        assert call.execution_id is not None, call
        return call.execution_id

    async def clock_at(self, seconds: float) -> None:
        """Let virtual time pass until so many seconds after the beginning."""
        await self.clock.sleep(timedelta(seconds=seconds - self.clock.monotonic()))

    async def until_quiet(self, within: float = 200) -> None:
        """Let virtual time pass until nothing is left to do."""
        end = self.clock.monotonic() + within
        while not await self.is_quiet():
            assert self.clock.monotonic() < end, await self.unrest()
            await self.clock.sleep(timedelta(seconds=1))

    async def until(
        self,
        condition: Callable[[], Awaitable[bool]],
        *,
        within: float = 60,
        every: float = 0.05,
    ) -> None:
        """Let virtual time pass until something holds."""
        end = self.clock.monotonic() + within
        while not await condition():
            assert self.clock.monotonic() < end, f"still not so after {within} s"
            await self.clock.sleep(timedelta(seconds=every))

    async def until_status(self, execution_id: str, *statuses: str, within: float = 60) -> None:
        """Let virtual time pass until an execution is in one of some states."""

        async def reached() -> bool:
            return await self.status(execution_id) in statuses

        await self.until(reached, within=within)

    async def is_quiet(self) -> bool:
        """Say whether nothing is left: no run, no saga, no lag, no outbox, no pod, no retry."""
        collections = self.collections
        if await collections["executions"].count({"status": NOT_TERMINAL}, limit=1):
            return False
        if await collections["sagas"].count({"completed_at": None}, limit=1):
            return False
        if await collections["dead_letters"].count(
            {"status": {"$in": ["pending", "scheduled"]}}, limit=1
        ):
            return False
        if await self.cluster.list() or await self._outboxes():
            return False
        return not await self.lag()

    async def unrest(self) -> str:
        """Return a sentence about what has not come to rest."""
        collections = self.collections
        open_runs = await collections["executions"].find({"status": NOT_TERMINAL})
        open_sagas = await collections["sagas"].find({"completed_at": None})
        letters = await collections["dead_letters"].find(
            {"status": {"$in": ["pending", "scheduled"]}}
        )
        return (
            f"no rest: {[(d['_id'], d['status']) for d in open_runs]} run,"
            f" sagas at {[(d['execution_id'], d['current_step']) for d in open_sagas]},"
            f" {[(d['function'], d['event_type'], d['error']) for d in letters]} dead letters,"
            f" {[pod.name for pod in await self.cluster.list()]} pods,"
            f" {await self._outboxes()} outboxes, lag {await self._lags()},"
            f" processes {[str(process) for process in self.processes.values()]}"
        )

    async def _lags(self) -> dict[str, int]:
        lags: dict[str, int] = {}
        for group, topics in self.groups().items():
            positions = (await self.log.positions(group, topics)).values()
            lags[group] = sum(p.end - (p.committed or p.start) for p in positions)
        return {group: lag for group, lag in lags.items() if lag}

    async def _outboxes(self) -> int:
        later = self.clock.now() + timedelta(days=1)
        counts = [
            len(await collection.leftovers(before=later, limit=1))
            for collection in self.collections.values()
        ]
        return sum(counts)

    async def lag(self) -> int:
        """Return how many records some group has still to handle."""
        lag = 0
        for group, topics in self.groups().items():
            for position in (await self.log.positions(group, topics)).values():
                done = position.start if position.committed is None else position.committed
                lag += position.end - done
        return lag

    def groups(self) -> dict[str, Sequence[Topic]]:
        """Return the groups that read topics."""
        return {slug: load(slug).spec.topics for slug in FUNCTIONS if load(slug).spec.topics}

    async def evidence(self, *, quiet: bool = True) -> Evidence:
        """Gather all that the invariants are judged by."""
        found = await gather(
            self.collections,
            self.log,
            groups=self.groups(),
            pods=await self.cluster.list(),
            at=self.clock.now(),
        )
        settings = self.settings
        caps = Caps(
            slots=settings.max_concurrent_executions,
            per_user=settings.max_concurrent_per_user,
            cpu_millicores=settings.pool_cpu_millicores,
            memory_bytes=settings.pool_memory_bytes,
            queue_length=settings.queue_length,
            queued_per_user=settings.queued_per_user,
            queue_limit=settings.queue_limit,
            output_kept_bytes=settings.output_limit_bytes,
        )
        return replace(
            found,
            deeds=[self._deed(deed) for deed in self.cluster.ledger],
            calls=self.calls,
            faults=self.faults,
            caps=caps,
            quiet=quiet,
        )

    def _deed(self, deed: ScriptedDeed) -> Deed:
        return Deed(
            at=deed.at,
            what=deed.what,
            pod_name=deed.spec.name,
            execution_id=deed.spec.execution_id,
            user_id=deed.spec.user_id,
            cpu_millicores=millicores(self.settings.cpu_request),
            memory_bytes=memory_bytes(self.settings.memory_request),
            stdout=deed.stdout,
            stderr=deed.stderr,
            by_stranger=deed.by_stranger,
        )

    async def post(self, record: NewRecord) -> None:
        """Append any bytes to a topic, as a stranger could."""
        await self.log.append([record])
