"""One pod as a watch tells it: its states and its output, in order, up to its deletion."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from shared.adapters.kubernetes import evidence, objects
from shared.adapters.kubernetes.evidence import Manifest, Output
from shared.adapters.kubernetes.frames import Frame, Printed, Reported, Started, Used
from shared.adapters.kubernetes.logs import Logs
from shared.adapters.kubernetes.report import Report, parsed
from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock
from shared.ports.cluster import Pod, PodEnd, PodOutput, PodPhase

_AGAIN: Final = timedelta(milliseconds=200)
_QUIET_SECONDS: Final = (2.0, 4.0, 8.0, 16.0)
"""How long the log of an ended container may be silent before it is read anew, each time."""
_QUIET_WHEN_GONE_SECONDS: Final = 0.5
_EXPLAIN_SECONDS: Final = 10.0
_GOING_SECONDS: Final = 60.0
"""How long a deleted pod may lack an end before its node is taken for lost."""
_TRIES_AFTER_END: Final = 5


class Tale:
    """Everything that is said of one pod, by one task. Changes are told to it from outside."""

    def __init__(
        self,
        pod: Manifest,
        *,
        logs: Logs,
        clock: Clock,
        say: Callable[[Pod | PodOutput], Awaitable[None]],
        was_told: bool,
    ) -> None:
        """Begin with a pod as it is now; `was_told` where another watch has said its end."""
        self._pod = pod
        self._logs = logs
        self._clock = clock
        self._say = say
        self._is_late = was_told or evidence.has_ended(pod)
        """States that are over are not said again."""
        self._gone = False
        self._going_since: float | None = None
        self._changed = asyncio.Event()
        self._said: Pod | None = None
        self._output = Output()
        self._report: Report | None = None
        self._is_saying = False
        self._heard_at = 0.0
        self._quiet = _QUIET_SECONDS[0]
        self._note_going()

    # ------------------------------------------------------------------------- told from outside

    def update(self, pod: Manifest) -> None:
        """Take in the pod as it is now. Changes that come together are one."""
        self._pod = pod
        self._note_going()
        self._changed.set()

    def remove(self, pod: Manifest | None = None) -> None:
        """Take in that its object is gone; with what it was last, where that is known."""
        if pod is not None:
            self._pod = pod
        self._gone = True
        self._changed.set()

    # ---------------------------------------------------------------------------------- the tale

    async def tell(self) -> None:
        """Tell it to its last word."""
        end = await self._before_start()
        if end is None:
            end = await self._run()
        if end.started and not self._is_late:
            await self._say_running()
        ended = evidence.pod_of(
            self._pod,
            PodPhase.ENDED,
            end=end,
            report=self._report,
            output=self._output,
            now=self._clock.now(),
        )
        await self._say(ended)
        while not self._gone:
            await self._changed.wait()
            self._changed.clear()
        await self._say(replace(ended, deleted=True))

    async def _before_start(self) -> PodEnd | None:
        """Tell what it waits for; return its end if it never starts, None once it has begun."""
        begun, allowed = self._clock.monotonic(), evidence.patience(self._pod)
        while not evidence.has_begun(self._pod):
            if evidence.patience(self._pod) != allowed:
                begun, allowed = self._clock.monotonic(), evidence.patience(self._pod)
            waited = timedelta(seconds=self._clock.monotonic() - begun)
            if self._gone:
                return evidence.lost(self._pod, self._output)
            if self._is_overdue():
                return evidence.abandoned(self._pod, self._output)
            end = evidence.end_before_start(self._pod, waited)
            if end is not None:
                return end
            await self._say_pending()
            await self._change(allowed - waited if allowed is not None else None)
        return None

    async def _run(self) -> PodEnd:
        """Tell its output, and return its end."""
        for self._quiet in _QUIET_SECONDS:
            if await self._is_read():
                break
        report = self._report or evidence.report_of(self._pod)
        if report is not None and report.cause in {"asked", "remove"}:
            await self._explanation()
        self._report = report
        if report is None and self._gone:
            return evidence.lost(self._pod, self._output)
        if report is None and not evidence.has_ended(self._pod):
            return evidence.abandoned(self._pod, self._output)
        return evidence.end_of(self._pod, report, self._output)

    async def _is_read(self) -> bool:
        """Read its log; False where that was given up although there may be more."""
        self._heard_at = self._clock.monotonic()
        reading = asyncio.create_task(self._read())
        try:
            while not reading.done():
                await self._change_or(reading)
                if self._is_silent():
                    return self._gone
                if self._is_overdue():
                    return True
            reading.result()
            return True
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    def _is_silent(self) -> bool:
        """Say whether nothing comes any more from a container that is over.

        Never while an item waits to be taken: a slow reader loses nothing.
        """
        if self._is_saying or not (self._gone or evidence.has_ended(self._pod)):
            return False
        longest = _QUIET_WHEN_GONE_SECONDS if self._gone else self._quiet
        return self._clock.monotonic() - self._heard_at >= longest

    async def _explanation(self) -> None:
        """Wait for the cluster to say why process 1 was asked to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXPLAIN_SECONDS):
                while not (self._gone or evidence.is_explained(self._pod)):
                    await self._change()

    # ------------------------------------------------------------------------------------ output

    async def _read(self) -> None:
        """Read its log to the last frame, over as many connections as that takes."""
        tries = 0
        while self._report is None and tries < _TRIES_AFTER_END:
            was_over = evidence.has_ended(self._pod)
            if await self._read_once(is_over=was_over) and was_over:
                return
            tries += was_over
            if self._report is None:
                await self._clock.sleep(_AGAIN)

    async def _read_once(self, *, is_over: bool) -> bool:
        """Read its log from the beginning, and pass over what was said before."""
        printed = 0

        async def take(frame: Frame) -> bool:
            nonlocal printed
            printed += isinstance(frame, Printed)
            if not isinstance(frame, Printed) or printed > self._output.chunks:
                await self._take(frame)
            self._heard_at = self._clock.monotonic()
            return self._report is None

        try:
            return await self._logs.read(evidence.name_of(self._pod), take, is_over=is_over)
        except TemporaryError:
            return False

    async def _take(self, frame: Frame) -> None:
        match frame:
            case Printed():
                await self._say_output(frame)
            case Started(at):
                self._output.started_at = at
                if not self._is_late:
                    await self._say_running()
            case Used():
                self._output.used = frame
            case Reported(text):
                self._report = parsed(text, objects.mark_of(self._pod))

    async def _say_output(self, frame: Printed) -> None:
        chunk = PodOutput(
            name=evidence.name_of(self._pod),
            uid=evidence.uid_of(self._pod),
            execution_id=evidence.execution_id_of(self._pod),
            stream=frame.stream,
            offset=frame.offset,
            data=frame.data,
            truncated=frame.truncated,
        )
        self._is_saying = True
        try:
            await self._say(chunk)
        finally:
            self._is_saying = False
        self._output.kept[frame.stream] += frame.data
        self._output.chunks += 1

    # ------------------------------------------------------------------------------------ states

    async def _say_pending(self) -> None:
        """Say what it waits for, unless that was said."""
        pod = evidence.pod_of(self._pod, PodPhase.PENDING)
        if not self._is_late and pod != self._said:
            self._said = pod
            await self._say(pod)

    async def _say_running(self) -> None:
        """Say once that the script runs."""
        if self._said is not None and self._said.phase is PodPhase.RUNNING:
            return
        pod = evidence.pod_of(self._pod, PodPhase.RUNNING, report=self._report, output=self._output)
        self._said = pod
        await self._say(pod)

    # ----------------------------------------------------------------------------------- waiting

    def _note_going(self) -> None:
        if self._going_since is None and evidence.is_going(self._pod):
            self._going_since = self._clock.monotonic()

    def _is_overdue(self) -> bool:
        if self._going_since is None or self._gone or evidence.has_ended(self._pod):
            return False
        return self._clock.monotonic() - self._going_since >= _GOING_SECONDS

    def _patience(self) -> timedelta | None:
        """Return how long to wait for a change before looking at the time again."""
        if self._gone:
            return timedelta(seconds=_QUIET_WHEN_GONE_SECONDS)
        if evidence.has_ended(self._pod):
            return timedelta(seconds=self._quiet)
        return timedelta(seconds=_GOING_SECONDS) if self._going_since is not None else None

    async def _change(self, longest: timedelta | None = None) -> None:
        """Wait until something changed, or for as long as it may take."""
        waits = [one for one in (longest, self._patience()) if one is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits).total_seconds() if waits else None):
                await self._changed.wait()
        self._changed.clear()

    async def _change_or(self, reading: "asyncio.Task[None]") -> None:
        """Wait until something changed, its log was read, or it is time to look."""
        changing = asyncio.create_task(self._change())
        await asyncio.wait({reading, changing}, return_when=asyncio.FIRST_COMPLETED)
        changing.cancel()
        await asyncio.wait({changing})
