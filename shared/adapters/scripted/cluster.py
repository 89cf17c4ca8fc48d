"""Pods that behave as scripted: how long they run, what they print, how they end.

Everything waits on the Clock port, so a virtual clock runs years of pods in a moment, and a pod's
life follows from its play alone. The ledger remembers what really happened, longer than the pods.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from shared.domain.errors import PermanentError, TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import (
    Captured,
    Cause,
    Isolation,
    Pod,
    PodEnd,
    PodOutput,
    PodPhase,
    PodSpec,
    Stream,
    Usage,
)

_NOTHING = timedelta(0)
_SENTENCES = {
    Cause.SIGNAL: "It ended by a signal that it raised.",
    Cause.DEADLINE: "It ran into its time limit.",
    Cause.CANCELLED: "It was ended on request.",
    Cause.OUT_OF_MEMORY: "It used more memory than its limit.",
    Cause.OUTPUT_FLOOD: "It printed more than is read.",
    Cause.EVICTED: "Its node needed the room.",
    Cause.IMAGE_PULL: "Its image could not be pulled.",
    Cause.NODE_LOST: "Its node was lost.",
    Cause.POD_LOST: "Somebody removed it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What one pod does."""

    creating: timedelta = _NOTHING
    """How long `create` takes to answer; the pod exists half-way through."""
    starting: timedelta = timedelta(milliseconds=50)
    """From its creation to the script's first instruction."""
    running: timedelta = timedelta(milliseconds=200)
    prints: Sequence[tuple[Stream, bytes]] = (("stdout", b"done\n"),)
    """Chunks, spread evenly over the run."""
    cause: Cause = Cause.EXIT
    exit_code: int | None = 0
    signal: int | None = None
    starts: bool = True
    """False: it ends by `cause` instead of starting."""
    waiting_reason: str | None = None
    """What it says while it waits to start."""
    ignores_term: bool = False
    refused: bool = False
    """It can never be made."""
    answer_lost: int = 0
    """So many calls of `create` do their work and then fail as if no answer had come."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that really happened to a pod."""

    at: datetime
    what: Literal["create", "end", "gone"]
    spec: PodSpec
    stdout: bytes = b""
    stderr: bytes = b""
    by_stranger: bool = False
    """A removal that no `delete` of ours asked for."""


@dataclass(slots=True)
class _Life:
    """One pod, with all that was ever said of it."""

    spec: PodSpec
    play: Play
    pod: Pod
    outputs: list[PodOutput] = field(default_factory=list)
    printed: dict[Stream, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    killer: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: Cause | None = None
    task: "asyncio.Task[None] | None" = None


class _Watcher:
    """One watch: what it has still to yield."""

    def __init__(self, first: Sequence[Pod | PodOutput]) -> None:
        self.items: asyncio.Queue[Pod | PodOutput | None] = asyncio.Queue()
        for item in first:
            self.items.put_nowait(item)
        self.deaf = False


def by_script(
    plays: Mapping[str, Play], otherwise: Play | None = None
) -> Callable[[PodSpec], Play]:
    """Return a policy that finds the play by the text of the script."""
    return lambda spec: plays.get(spec.script.decode(errors="replace"), otherwise or Play())


class ScriptedCluster:
    """A cluster without machines. Its pods outlive every client, as those of a real one do."""

    remembers = True
    """Whether the name of a removed pod stays taken: a late `create` then makes no second one."""

    def __init__(self, clock: Clock, policy: Callable[[PodSpec], Play] | None = None) -> None:
        """Let a policy choose what each new pod does; without one, all do the same."""
        self._clock = clock
        self._policy = policy or (lambda _: Play())
        self._lives: dict[str, _Life] = {}
        self._watchers: dict[_Watcher, None] = {}  # in order, which a set has not
        self._lost_answers: dict[str, int] = {}
        self._removed: set[str] = set()
        self._made = 0
        self.ledger: list[Deed] = []
        """Every creation, end and removal, in order."""

    async def create(self, spec: PodSpec) -> None:
        """Make the pod exist, once per name: one that was deleted is not made again."""
        play = self._policy(spec)
        if play.refused:
            raise PermanentError(f"{spec.name} can never be made here")
        if play.creating:
            await self._clock.sleep(play.creating / 2)
        if spec.name not in self._lives and not (self.remembers and spec.name in self._removed):
            self._make(spec, play)
        if play.creating:
            await self._clock.sleep(play.creating / 2)
        lost = self._lost_answers.get(spec.name, 0)
        if lost < play.answer_lost:
            self._lost_answers[spec.name] = lost + 1
            raise TemporaryError(f"no answer about {spec.name}")

    def _make(self, spec: PodSpec, play: Play) -> None:
        self._made += 1
        pod = Pod(
            name=spec.name,
            uid=f"uid-{self._made}",
            execution_id=spec.execution_id,
            phase=PodPhase.PENDING,
            created_at=self._clock.now(),
            waiting_reason=play.waiting_reason,
        )
        life = self._lives[spec.name] = _Life(spec, play, pod)
        self._note("create", life)
        self._say(life, pod)
        # In a context of its own: whatever becomes of the caller, the pod lives on.
        life.task = asyncio.get_running_loop().create_task(
            self._live(life), context=contextvars.Context()
        )

    async def delete(self, name: str, *, grace: timedelta, cancel: bool = False) -> None:
        """End the pod if it runs, and remove it unless it is only to be cancelled."""
        life = self._lives.get(name)
        if life is None:
            return
        await self._stop(life, Cause.CANCELLED, grace)
        if not cancel and self._lives.get(name) is life:
            self._remove(life)

    async def list(self) -> Sequence[Pod]:
        """Return every pod that exists."""
        return [life.pod for life in self._lives.values()]

    async def sweep(self, older_than: timedelta) -> Sequence[str]:  # noqa: ARG002 - the port's
        """Remove nothing: a pod has no inputs here."""
        return ()

    async def watch(self) -> AsyncIterator[Pod | PodOutput]:
        """Yield each pod as it is now, then every change."""
        watcher = _Watcher([item for life in self._lives.values() for item in _as_it_is(life)])
        self._watchers[watcher] = None
        try:
            while (item := await watcher.items.get()) is not None:
                yield item
        finally:
            self._watchers.pop(watcher, None)

    async def isolation(self) -> Isolation:
        """Return that nothing runs here."""
        return Isolation("scripted", {"everything": "no script is run"})

    # --- what happens to a cluster ---------------------------------------------------------------

    def end_watches(self) -> None:
        """End every watch without a word, as a connection that was cut does."""
        for watcher in self._watchers:
            watcher.items.put_nowait(None)

    def silence_watches(self) -> None:
        """Let every watch that is open go on without ever saying anything again."""
        for watcher in self._watchers:
            watcher.deaf = True

    async def strike(self, name: str, cause: Cause) -> None:
        """Let a running or waiting pod end by something from outside: eviction, a lost node."""
        life = self._lives.get(name)
        if life is not None:
            await self._stop(life, cause, _NOTHING)

    async def vanish(self, name: str) -> None:
        """Let somebody else remove a pod."""
        life = self._lives.get(name)
        if life is not None:
            await self._stop(life, Cause.POD_LOST, _NOTHING)
            if self._lives.get(name) is not life:
                return
            self._remove(life, by_stranger=True)

    async def close(self) -> None:
        """Stop all pods and watches."""
        self.end_watches()
        tasks = [life.task for life in self._lives.values() if life.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the life of a pod -----------------------------------------------------------------------

    async def _live(self, life: _Life) -> None:
        """Start, print, end; or end earlier, when somebody or the time limit says so."""
        play = life.play
        if not await self._wait(life, play.starting):
            self._end(life, life.verdict or Cause.UNKNOWN, started=False)
            return
        if not play.starts:
            self._end(life, play.cause, started=False)
            return
        now = self._clock.now()
        self._say(
            life,
            replace(
                life.pod,
                phase=PodPhase.RUNNING,
                node_name="node-1",
                started_at=now,
                waiting_reason=None,
            ),
        )
        self._end(life, await self._run(life), started=True)

    async def _run(self, life: _Life) -> Cause:
        """Print chunk by chunk until the run is over; return why it is."""
        play = life.play
        step = play.running / (len(play.prints) + 1)
        left = life.spec.timeout
        for stream, data in play.prints:
            wait = min(step, left)
            if not await self._wait(life, wait):
                return life.verdict or Cause.UNKNOWN
            left -= wait
            if left <= _NOTHING:
                return Cause.DEADLINE
            if not self._print(life, stream, data):
                return Cause.OUTPUT_FLOOD
        if not await self._wait(life, min(step, left)):
            return life.verdict or Cause.UNKNOWN
        return Cause.DEADLINE if step > left else play.cause

    async def _wait(self, life: _Life, duration: timedelta) -> bool:
        """Wait; say whether nobody ended the pod meanwhile."""
        sleep = asyncio.ensure_future(self._clock.sleep(duration))
        killed = asyncio.ensure_future(life.killer.wait())
        try:
            await asyncio.wait({sleep, killed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            killed.cancel()
        return not life.killer.is_set()

    def _print(self, life: _Life, stream: Stream, data: bytes) -> bool:
        """Print; say whether the script may go on."""
        limits = life.spec.limits
        before = len(life.printed[stream])
        life.printed[stream] += data
        kept = data[: max(0, limits.output_kept_bytes - before)]
        if kept:
            output = PodOutput(
                name=life.pod.name,
                uid=life.pod.uid,
                execution_id=life.pod.execution_id,
                stream=stream,
                offset=before,
                data=kept,
                truncated=len(kept) < len(data),
            )
            life.outputs.append(output)
            self._tell(output)
        total = sum(len(printed) for printed in life.printed.values())
        return total <= limits.output_drained_bytes

    async def _stop(self, life: _Life, cause: Cause, grace: timedelta) -> None:
        """End a pod that has not ended: TERM, and after the grace KILL."""
        if life.pod.phase is PodPhase.ENDED or life.task is None:
            return
        life.verdict = life.verdict or cause
        if life.play.ignores_term and life.pod.phase is PodPhase.RUNNING:
            await self._clock.sleep(grace)
        life.killer.set()
        await asyncio.wait({life.task})

    def _end(self, life: _Life, cause: Cause, *, started: bool) -> None:
        by_itself = cause is life.play.cause and life.verdict is None
        captured = {name: self._captured(life, name) for name in life.printed}
        wall = self._clock.now() - (life.pod.started_at or self._clock.now())
        end = PodEnd(
            cause=cause,
            exit_code=life.play.exit_code if by_itself and cause is Cause.EXIT else None,
            signal=life.play.signal if by_itself and cause is Cause.SIGNAL else None,
            message="" if cause is Cause.EXIT else _SENTENCES.get(cause, f"It ended: {cause}."),
            started=started,
            usage=Usage(wall.total_seconds(), None, None, "wait4", complete=True)
            if started
            else None,
            stdout=captured["stdout"],
            stderr=captured["stderr"],
            output_chunks=len(life.outputs),
        )
        self._note("end", life)
        self._say(
            life,
            replace(life.pod, phase=PodPhase.ENDED, ended_at=self._clock.now(), end=end),
        )

    @staticmethod
    def _captured(life: _Life, stream: Stream) -> Captured:
        printed = life.printed[stream]
        return Captured(printed[: life.spec.limits.output_kept_bytes], len(printed))

    def _remove(self, life: _Life, *, by_stranger: bool = False) -> None:
        del self._lives[life.pod.name]
        self._removed.add(life.pod.name)
        self._note("gone", life, by_stranger=by_stranger)
        self._say(life, replace(life.pod, deleted=True))

    # --- saying ----------------------------------------------------------------------------------

    def _note(
        self, what: Literal["create", "end", "gone"], life: _Life, *, by_stranger: bool = False
    ) -> None:
        printed = life.printed if what == "end" else {"stdout": b"", "stderr": b""}
        self.ledger.append(
            Deed(
                at=self._clock.now(),
                what=what,
                spec=life.spec,
                stdout=printed["stdout"],
                stderr=printed["stderr"],
                by_stranger=by_stranger,
            )
        )

    def _say(self, life: _Life, pod: Pod) -> None:
        life.pod = pod
        self._tell(pod)

    def _tell(self, item: Pod | PodOutput) -> None:
        for watcher in self._watchers:
            if not watcher.deaf:
                watcher.items.put_nowait(item)


def _as_it_is(life: _Life) -> Sequence[Pod | PodOutput]:
    """Return what a new watch is told of a pod: all output before the word that it ended."""
    if life.pod.phase is PodPhase.ENDED:
        return [*life.outputs, life.pod]
    return [life.pod, *life.outputs]
