"""Give every event of an execution its number, store it, then tell whoever is watching."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple
from weakref import WeakValueDictionary

from functions.relay_events import rules
from shared.domain.errors import AlreadyExists, TemporaryError
from shared.events.event import Event
from shared.events.executions import ExecutionOutput, ExecutionRequested
from shared.events.results import ResultStored
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.signals import Signals

_LOG = logging.getLogger(__name__)
_PATIENCE = timedelta(seconds=2)
"""The longest that an event is held back for one that belongs before it."""
_LOOK_AGAIN = timedelta(milliseconds=100)
_LOOK_LATE = timedelta(milliseconds=500)
"""After which it is looked for in the store what is most likely on its way to this process."""
_GATHER = timedelta(milliseconds=3)
_REMEMBERED_EVENTS = 16_384
_REMEMBERED_EXECUTIONS = 4_096
_AT_ONCE = 500
"""Events in one write."""


@dataclass(slots=True)
class History:
    """What this process knows of the newest histories; all of it can be read again."""

    last: "OrderedDict[str, int]" = field(default_factory=OrderedDict)
    outputs: dict[str, int] = field(default_factory=dict)
    stored: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    is_shared: bool = False
    """Whether what was looked for last had been stored by another process."""
    locks: "WeakValueDictionary[str, asyncio.Lock]" = field(default_factory=WeakValueDictionary)

    def one_at_a_time(self, execution_id: str) -> asyncio.Lock:
        """Return the lock under which this process numbers one execution.

        Two lanes of one execution would only fight for the next number; other processes may, and
        the unique index decides.
        """
        lock = self.locks.get(execution_id)
        if lock is None:
            lock = self.locks[execution_id] = asyncio.Lock()
        return lock

    def note(self, event: Event, seq: int) -> None:
        """Remember an event that is stored, and wake whoever waits for it."""
        self.last[event.subject] = max(seq, self.last.get(event.subject, 0))
        self.last.move_to_end(event.subject)
        if isinstance(event.data, ExecutionOutput):
            self.outputs[event.subject] = self.outputs.get(event.subject, 0) + 1
            self._wake(_outputs_of(event.subject))
        self.stored[event.id] = None
        self._wake(event.id)
        while len(self.stored) > _REMEMBERED_EVENTS:
            self.stored.popitem(last=False)
        while len(self.last) > _REMEMBERED_EXECUTIONS:
            execution_id, _ = self.last.popitem(last=False)
            self.outputs.pop(execution_id, None)

    def _wake(self, name: str) -> None:
        waiter = self.waiting.pop(name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def waiter(self, name: str) -> "asyncio.Future[None]":
        """Return a future that is done at the next word about `name`."""
        if name not in self.waiting:
            self.waiting[name] = asyncio.get_running_loop().create_future()
        return self.waiting[name]


@dataclass(slots=True)
class Nudges:
    """Messages to streams: gathered while the last ones are on their way."""

    pending: list[tuple[str, bytes]] = field(default_factory=list)
    gathering: "asyncio.Task[None] | None" = None
    sending: "asyncio.Task[None] | None" = None
    lost: int = 0
    """Messages since the last that was told."""


@dataclass(slots=True, eq=False)
class Write:
    """Events of one execution on their way into the history, in order."""

    documents: Sequence[Document]
    stored: int | None = None
    """How many of the first were stored, once that is known."""


@dataclass(slots=True)
class Writes:
    """What waits for the store: while something is written, more gathers, for one write of all."""

    waiting: list[Write] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Needs(NamedTuple):
    """The ports of this function, and what one replica remembers."""

    events: Documents
    audit_log: Documents
    signals: Signals
    clock: Clock
    history: History
    writes: Writes
    nudges: Nudges


async def handle(event: Event, needs: Needs) -> None:
    """Store the event once under the next number, whatever is delivered twice or out of order."""
    if not rules.is_of_execution(event):
        await _store_plain(event, needs)
        return
    if event.id in needs.history.stored:
        return
    await _wait_for_predecessors(event, needs)
    await _store_all([event], needs)


async def handle_batch(events: Sequence[Event], needs: Needs) -> None:
    """Store events of one execution that came together in one go, as far as nothing holds them."""
    rest = [event for event in events if event.id not in needs.history.stored]
    while rest:
        ready = _ready(rest, needs.history)
        if ready:
            await _store_all(ready, needs)
            del rest[: len(ready)]
        else:
            await handle(rest.pop(0), needs)


def _ready(events: Sequence[Event], history: History) -> Sequence[Event]:
    """Return the first events, as far as what belongs before each is known to be stored.

    What stands before it in the same batch counts: the order of numbers is kept.
    """
    before: set[str] = set()
    for number, event in enumerate(events):
        cause = rules.waits_for(event)
        is_held = cause is not None and cause not in history.stored and cause not in before
        outputs = rules.outputs_before(event)
        if is_held or outputs > history.outputs.get(event.subject, 0):
            return events[:number]
        if not rules.is_of_execution(event) or event.id in before:
            return events[:number]
        before.add(event.id)
    return events


async def _store_all(events: Sequence[Event], needs: Needs) -> None:
    """Insert events of one execution under the next numbers, in order.

    The store takes them up to the first that it refuses, so that none stands behind a gap; from
    there on each is stored by itself.
    """
    execution_id = events[0].subject
    async with needs.history.one_at_a_time(execution_id):
        last = needs.history.last.get(execution_id)
        if last is None:
            # Nothing stands before the request; where it comes again the store refuses the number.
            is_first = isinstance(events[0].data, ExecutionRequested)
            last = 0 if is_first else await _last_seq(execution_id, needs)
        now = needs.clock.now()
        documents = [
            rules.history_document(event, last + number, now)
            for number, event in enumerate(events, start=1)
        ]
        stored = await _write(documents, needs)
        for event, document in zip(events[:stored], documents[:stored], strict=True):
            needs.history.note(event, document["seq"])
            _nudge(document, needs)
        if stored < len(events):
            needs.history.last.pop(execution_id, None)  # somebody else numbers it too
        for event in events[stored:]:
            document_of_it = await _store(event, needs)
            if document_of_it is not None:
                _nudge(document_of_it, needs)


async def _write(documents: Sequence[Document], needs: Needs) -> int:
    """Store documents in order, up to the first that is refused; return how many were stored.

    Whoever finds nobody writing writes for all who wait. Where that fails, it fails for one alone:
    the others try again.
    """
    mine, writes = Write(documents), needs.writes
    writes.waiting.append(mine)
    try:
        async with writes.lock:
            while mine.stored is None:
                await _write_waiting(needs)
    finally:
        if mine in writes.waiting:
            writes.waiting.remove(mine)
    return mine.stored


async def _write_waiting(needs: Needs) -> None:
    """Store what waits, as much as goes into one write, and say of each how far it came."""
    waiting, together, size = needs.writes.waiting, 0, 0
    while together < len(waiting) and (not together or size < _AT_ONCE):
        size += len(waiting[together].documents)
        together += 1
    batch = waiting[:together]
    documents = [document for write in batch for document in write.documents]
    left = await needs.events.insert_all([(one["event_id"], one) for one in documents])
    for write in batch:
        write.stored = min(left, len(write.documents))
        left -= write.stored
        waiting.remove(write)
        if write.stored < len(write.documents):
            return  # what stands behind a refusal was not tried


async def _store_plain(event: Event, needs: Needs) -> None:
    now = needs.clock.now()
    with contextlib.suppress(AlreadyExists):
        await needs.events.insert(event.id, rules.history_document(event, None, now))
    entry = rules.audit_document(event)
    if entry is not None:
        with contextlib.suppress(AlreadyExists):
            await needs.audit_log.insert(event.id, entry)


async def _store(event: Event, needs: Needs) -> Document | None:
    """Insert at last + 1; where somebody else took that number, read again.

    Insert first, never count first: a crash between counting and inserting would leave a gap.
    """
    last = needs.history.last.get(event.subject)
    while True:
        if last is None:
            last = await _last_seq(event.subject, needs)
        document = rules.history_document(event, last + 1, needs.clock.now())
        try:
            stored = await needs.events.insert(event.id, document)
        except AlreadyExists:
            if await needs.events.get(event.id) is not None:
                return None  # delivered again
            last = None  # another process took the number
            continue
        needs.history.note(event, last + 1)
        return stored


async def _last_seq(execution_id: str, needs: Needs) -> int:
    newest = await needs.events.find(
        {"execution_id": execution_id}, sort=[("execution_id", -1), ("seq", -1)], limit=1
    )
    return int(newest[0]["seq"]) if newest else 0


async def _wait_for_predecessors(event: Event, needs: Needs) -> None:
    """Hold the event back until those that belong before it are stored, but not for long.

    They come over several topics, and a broker promises no order across those. Who has numbered
    this execution before will most likely store them too, and asks the store only if they are late.
    """
    cause, outputs = rules.waits_for(event), rules.outputs_before(event)
    may_be_elsewhere = event.subject not in needs.history.last
    look_after = _LOOK_AGAIN if may_be_elsewhere or needs.history.is_shared else _LOOK_LATE
    until = needs.clock.monotonic() + _PATIENCE.total_seconds()
    while needs.clock.monotonic() < until:
        if cause is not None and not await _is_stored(cause, needs, ask=may_be_elsewhere):
            is_told = await _next_word(cause, look_after, needs)
        elif not await _has_outputs(event.subject, outputs, needs, ask=may_be_elsewhere):
            is_told = await _next_word(_outputs_of(event.subject), look_after, needs)
        else:
            return
        may_be_elsewhere, look_after = not is_told, _LOOK_AGAIN


async def _is_stored(event_id: str, needs: Needs, *, ask: bool) -> bool:
    if event_id in needs.history.stored:
        return True
    if ask:
        needs.history.is_shared = await needs.events.get(event_id) is not None
    return ask and needs.history.is_shared


async def _has_outputs(execution_id: str, wanted: int, needs: Needs, *, ask: bool) -> bool:
    if needs.history.outputs.get(execution_id, 0) >= wanted:
        return True
    if not ask:
        return False
    found = await needs.events.count(
        {"execution_id": execution_id, "event_type": ExecutionOutput.TYPE}
    )
    return found >= wanted


def _outputs_of(execution_id: str) -> str:
    return f"outputs {execution_id}"


async def _next_word(name: str, look_after: timedelta, needs: Needs) -> bool:
    """Wait for this process to store what is missing; say whether it did in the time given.

    Otherwise it is to be looked for: another process may have stored it.
    """
    word = needs.history.waiter(name)
    look = asyncio.ensure_future(needs.clock.sleep(look_after))
    try:
        await asyncio.wait({word, look}, return_when=asyncio.FIRST_COMPLETED)
        return word.done()
    finally:
        look.cancel()
        if not word.done():
            # Another process may store it, and then nobody here would ever take it out.
            needs.history.waiting.pop(name, None)


def _nudge(document: Document, needs: Needs) -> None:
    """Tell the streams soon; the history is the truth, a lost nudge only costs a poll.

    The result goes out at once, and takes along what was gathered before it.
    """
    nudges = needs.nudges
    nudges.pending.append(rules.nudge(document))
    if nudges.sending is not None:
        return
    if document["event_type"] == ResultStored.TYPE:
        nudges.sending = asyncio.create_task(_send_nudges(needs))
    elif nudges.gathering is None:
        nudges.gathering = asyncio.create_task(_gather_nudges(needs))


async def _gather_nudges(needs: Needs) -> None:
    """Let what happens together go out together: each sending waits for the disk once."""
    await needs.clock.sleep(_GATHER)
    nudges = needs.nudges
    nudges.gathering = None
    if nudges.pending and nudges.sending is None:
        nudges.sending = asyncio.create_task(_send_nudges(needs))


async def _send_nudges(needs: Needs) -> None:
    nudges = needs.nudges
    try:
        while nudges.pending:
            messages, nudges.pending = nudges.pending, []
            # Once more, as a slow answer is no answer; streams drop what they know.
            if not await _are_told(messages, needs) and not await _are_told(messages, needs):
                nudges.lost += len(messages)
            elif nudges.lost:
                _LOG.warning("streams are told again; %d messages were lost", nudges.lost)
                nudges.lost = 0
    finally:
        nudges.sending = None


async def _are_told(messages: Sequence[tuple[str, bytes]], needs: Needs) -> bool:
    """Tell the streams; say whether it is sure that they were told."""
    try:
        # What a client was shown must survive loss of power.
        await needs.events.flush()
        await needs.signals.publish_all(messages)
    except TemporaryError as error:
        if not needs.nudges.lost:
            _LOG.warning("streams may not be told, and look for themselves: %s", error)
        return False
    return True
