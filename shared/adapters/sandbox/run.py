"""One sandbox from its first descriptor to its last: spawned, read, ended, cleaned up.

Everything happens in the event loop's thread and in callbacks, without a task: a run that prints a
line costs a handful of wake-ups. The kernel ties the sandbox to the thread that spawned it, so the
loop must live as long as the service does.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from shared.adapters.sandbox import arguments
from shared.adapters.sandbox.arguments import Job, View
from shared.adapters.sandbox.capture import Capture, Chunk
from shared.adapters.sandbox.groups import Leaf
from shared.ports.cluster import Cause, Limits, PodEnd, Stream, Usage

# The control channel: fixed records both ways, see struct report and struct order in init.c.
_REPORT: Final = struct.Struct("<IIiiQQQ")
_ORDER: Final = struct.Struct("<II")
_SAY_STARTED: Final = 1
_SAY_NOT_STARTED: Final = 2
_SAY_ENDED: Final = 3

_READ_BYTES: Final = 64 * 1024
_PIPE_BYTES: Final = 64 * 1024
_LARGEST_PIPE_BYTES: Final = 1024 * 1024
_LAST_READS: Final = 64
"""A pipe holds 1 MiB at most; whoever writes more than this after the end is not dead."""

_START_SECONDS: Final = 10.0
"""Longest time from spawn to the script's exec; it takes about four milliseconds."""
_DEADLINE_SLACK_SECONDS: Final = 5.0
"""How long after the limit process 1 is trusted to end the run; TERM to KILL is two of it."""
_OBEY_SECONDS: Final = 0.5
_LEAVE_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 0.25
"""Longest wait for the ends of the pipes of a run that left no report."""
_AGAIN_SECONDS: Final = 0.005
_ALARM_CHECKS: Final = 100
_REMOVE_CHECKS: Final = 2000


class Order(IntEnum):
    """What process 1 is told to do, and what it will name as the cause."""

    NOTHING = 0
    DEADLINE = 1
    CANCEL = 2
    FLOOD = 3
    MEMORY = 4


@dataclass(frozen=True, slots=True)
class Host:
    """What all runs share."""

    binary: str
    view: View
    filter_path: str | None
    """The assembled filter; opened anew for each run, because its reader moves the offset."""
    null: int
    base_uid: int | None
    """Slot n runs as this plus n; None where all run as the service's own user."""
    sealed: bool = True

    def uid(self, slot: int) -> int | None:
        """Return whom a slot runs as."""
        return None if self.base_uid is None else self.base_uid + slot


class Listener(Protocol):
    """Who is told, always from the event loop and in this order."""

    def started(self) -> None:
        """Hear that the script runs."""

    def printed(self, chunk: Chunk) -> None:
        """Hear live output."""

    def ended(self, end: PodEnd) -> None:
        """Hear the evidence, once, after all output."""

    def freed(self) -> None:
        """Hear that nothing is left of it: processes, group, descriptors."""


class Run:
    """One sandbox and everything that the service holds for it."""

    __slots__ = (
        "_alarm",
        "_asked",
        "_attempts",
        "_backstop",
        "_capture",
        "_control",
        "_guard",
        "_host",
        "_late",
        "_leaf",
        "_limits",
        "_listener",
        "_loop",
        "_lost",
        "_pending",
        "_pidfd",
        "_pipes",
        "_settle_until",
        "_started_at",
        "_timeout",
        "ended",
        "freed",
        "pid",
        "slot",
        "started",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        leaf: Leaf,
        listener: Listener,
        *,
        slot: int,
        limits: Limits,
        timeout: float,
    ) -> None:
        self._loop = loop
        self._host = host
        self._leaf = leaf
        self._listener = listener
        self._limits = limits
        self._timeout = timeout
        self._capture = Capture(limits.output_kept_bytes)
        self._pipes: dict[Stream, int] = {}
        self._control = self._pidfd = self._alarm = -1
        self._pending: asyncio.TimerHandle | None = None
        self._guard: asyncio.TimerHandle | None = None
        self._asked = Order.NOTHING
        self._lost = False
        self._late = False
        self._backstop = False
        self._settle_until = 0.0
        self._started_at = 0.0
        self._attempts = 0
        self.slot = slot
        self.pid = -1
        self.started = False
        self.ended = False
        self.freed = False

    # ------------------------------------------------------------------------------- beginning

    def spawn(self, job: Job, contents: Sequence[bytes], stdin: bytes | None) -> None:
        """Start it; `contents` are the job's files.

        Raises:
            OSError: Nothing was started, and nothing is left.
        """
        ours: list[int] = []
        theirs: list[int] = []
        uid = self._host.uid(self.slot)
        try:
            fds = self._descriptors(contents, stdin, uid, ours, theirs)
            argv = arguments.enter(
                binary=self._host.binary,
                parent=os.getpid(),
                descriptors=fds,
                uid=uid,
                groups=self._leaf.joins,
                binds=job.binds,
            ) + arguments.bubblewrap(
                job,
                self._host.view,
                filtered=self._host.filter_path is not None,
                sealed=self._host.sealed,
            )
            self._alarm = alarm if (alarm := self._leaf.alarm()) is not None else -1
            self.pid = os.posix_spawn(
                self._host.binary,
                argv,
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in set(fds)],
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._control, self._pipes["stdout"], self._pipes["stderr"] = ours
        try:
            self._listen()
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            for fd in ours:
                self._loop.remove_reader(fd)
                os.close(fd)
            raise

    def _descriptors(
        self,
        contents: Sequence[bytes],
        stdin: bytes | None,
        uid: int | None,
        ours: list[int],
        theirs: list[int],
    ) -> list[int]:
        """Open everything; return what lies at 0, 1, 2 ... in the sandbox."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        far.setblocking(True)  # noqa: FBT003 - its only spelling
        ours.append(near.detach())
        theirs.append(far.detach())
        fds = [self._host.null, -1, -1, theirs[0], -1]
        if stdin:
            fds[0] = _stdin(stdin, theirs)
        for target in (1, 2):
            reader, writer = os.pipe()
            ours.append(reader)
            theirs.append(writer)
            os.set_blocking(reader, False)
            fds[target] = writer
        if uid is not None:
            # Opening /dev/stdout again asks for the owner of the pipe.
            for fd in fds[:3]:
                if fd != self._host.null:
                    os.fchown(fd, uid, uid)
        if self._host.filter_path is None:
            fds[arguments.FILTER] = self._host.null
        else:
            fds[arguments.FILTER] = os.open(self._host.filter_path, os.O_RDONLY | os.O_CLOEXEC)
            theirs.append(fds[arguments.FILTER])
        for content in contents:
            fd = os.memfd_create("script", os.MFD_CLOEXEC)
            theirs.append(fd)
            _write_all(fd, content)
            os.lseek(fd, 0, os.SEEK_SET)
            fds.append(fd)
        return fds

    def _listen(self) -> None:
        loop = self._loop
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._control, self._on_control)
        loop.add_reader(self._pipes["stdout"], self._on_output, "stdout")
        loop.add_reader(self._pipes["stderr"], self._on_output, "stderr")
        if self._alarm >= 0:
            loop.add_reader(self._alarm, self._on_alarm)
        loop.add_reader(self._pidfd, self._on_exit)
        self._guard = loop.call_later(_START_SECONDS, self._on_guard)

    # ---------------------------------------------------------------------------------- running

    def _on_control(self) -> None:
        try:
            record = os.read(self._control, _REPORT.size)
        except BlockingIOError:
            return
        except OSError:
            record = b""
        if len(record) != _REPORT.size:
            # Nobody holds the other end any more: the pidfd tells the rest.
            self._loop.remove_reader(self._control)
            return
        kind, cause, status, error, wall_ns, cpu_us, maxrss_kb = _REPORT.unpack(record)
        if kind == _SAY_STARTED:
            self.started = True
            self._started_at = self._loop.time()
            self._listener.started()
            self._say()
        elif kind == _SAY_NOT_STARTED:
            self._finish(
                PodEnd(
                    Cause.CONTAINER_START,
                    started=False,
                    message=f"The interpreter could not be started: {os.strerror(error)}.",
                )
            )
        elif kind == _SAY_ENDED and not self.ended:
            self._drain()
            self._finish(self._reported(Order(cause), status, wall_ns, cpu_us, maxrss_kb))

    def _on_output(self, stream: Stream) -> None:
        self._read(stream)
        self._say()

    def _read(self, stream: Stream) -> bool:
        """Read once; False when there is nothing more for now."""
        pipe = self._pipes.get(stream)
        if pipe is None:
            return False
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(pipe)
            os.close(self._pipes.pop(stream))
            return False
        self._capture.feed(stream, data, self._loop.time())
        if self._capture.total_bytes > self._limits.output_drained_bytes:
            self.order(Order.FLOOD, 0.0)
        return True

    def _say(self) -> None:
        """Say what is due, and come again for what is not."""
        if not self.started:
            return  # what is there are the words of set-up
        now = self._loop.time()
        while (chunk := self._capture.take(now)) is not None:
            self._listener.printed(chunk)
        due = self._capture.due()
        if due is not None and self._pending is None:
            self._pending = self._loop.call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._pending = None
        self._say()

    def _on_alarm(self) -> None:
        """Memory ran out somewhere in the group; the counter follows the alarm a little later."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._alarm, 8)
        self._attempts = 0
        self._check_memory()

    def _check_memory(self) -> None:
        if self.ended:
            return
        if self._leaf.memory_kills():
            self.order(Order.MEMORY, 0.0)
        elif self._attempts < _ALARM_CHECKS:
            self._attempts += 1
            self._loop.call_later(_AGAIN_SECONDS, self._check_memory)

    # ---------------------------------------------------------------------------------- ending

    def order(self, what: Order, grace: float) -> None:
        """Have process 1 end everything: TERM, then KILL after `grace` seconds."""
        if self.ended:
            return
        if self._asked is Order.NOTHING:
            self._asked = what
        elif self._guard is not None and (
            self._guard.when() <= self._loop.time() + grace + _OBEY_SECONDS
        ):
            return  # what was asked before ends it sooner
        try:
            os.write(self._control, _ORDER.pack(what, round(grace * 1000)))
        except OSError:
            self.kill()
            return
        self._watch_over(grace + _OBEY_SECONDS)

    def lose(self, grace: float = 0.0) -> None:
        """End it because the service ends or it is not wanted any more: it is lost."""
        self._lost = self._lost or self._asked is not Order.CANCEL
        self.order(Order.CANCEL, grace)

    def members(self) -> list[int]:
        """Return the processes of the group; none where there are no groups."""
        return self._leaf.members()

    def kill(self) -> None:
        """Kill from outside everybody but bubblewrap itself, which reaps process 1 and follows."""
        self._leaf.kill(keep=self.pid)
        if self._pidfd >= 0 and not self._leaf.joins:
            with contextlib.suppress(OSError):
                for child in _children(self.pid):
                    os.kill(child, signal.SIGKILL)
        if not self.ended:
            self._loop.call_later(_OBEY_SECONDS, self._kill_outer)

    def _kill_outer(self) -> None:
        """Kill bubblewrap too: the kernel then ends the rest, and the machine's init reaps it."""
        if self._pidfd >= 0:
            self._leaf.kill()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _watch_over(self, seconds: float) -> None:
        if self._guard is not None:
            self._guard.cancel()
        self._guard = self._loop.call_later(seconds, self._on_guard)

    def _on_guard(self) -> None:
        """Process 1 did not do its work in time."""
        if self.ended:
            return
        if self._asked is Order.NOTHING:
            if self.started and not self._backstop:
                self._backstop = True
                self._watch_over(self._timeout + _DEADLINE_SLACK_SECONDS)
                return
            self._asked = Order.DEADLINE
            self._late = not self.started
        self.kill()

    def _on_exit(self) -> None:
        """Bubblewrap is gone, and with it the sandbox."""
        self._loop.remove_reader(self._pidfd)
        status = 0
        with contextlib.suppress(ChildProcessError):  # somebody waited for all children
            _, status = os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1
        if not self.ended:
            self._on_control_leftover()
        if self.ended:
            self._free()
            return
        self._settle_until = self._loop.time() + _SETTLE_SECONDS
        self._settle(status)

    def _on_control_leftover(self) -> None:
        """Read a report that arrived together with the end."""
        for _ in range(2):
            if not self.ended:
                self._on_control()

    def _settle(self, status: int) -> None:
        """Wait a moment for the last of it to die, then end without a report."""
        self._leaf.kill()
        self._drain()
        if (self._pipes or self._leaf.members()) and self._loop.time() < self._settle_until:
            self._loop.call_later(_AGAIN_SECONDS, self._settle, status)
            return
        self._finish(self._unreported(status))
        self._free()

    def _drain(self) -> None:
        """Read what the dead have left in the pipes."""
        for stream in ("stdout", "stderr"):
            for _ in range(_LAST_READS):
                if not self._read(stream):
                    break

    def _finish(self, end: PodEnd) -> None:
        """Say what is left, then the end; from here on nothing is read any more."""
        if self.ended:
            return
        self.ended = True
        for timer in (self._pending, self._guard):
            if timer is not None:
                timer.cancel()
        # Process 1 leaves by itself after its report; should it not, the slot must not wait for it.
        self._guard = self._loop.call_later(_LEAVE_SECONDS, self._kill_outer)
        for fd in (*self._pipes.values(), self._control, self._alarm):
            if fd >= 0:
                self._loop.remove_reader(fd)
        if end.started:
            for chunk in self._capture.rest(self._loop.time()):
                self._listener.printed(chunk)
        self._listener.ended(end)

    def _free(self) -> None:
        """Close what is open and remove the group; the kernel may need a moment for that."""
        if self._guard is not None:
            self._guard.cancel()
        for fd in (*self._pipes.values(), self._control):
            if fd >= 0:
                os.close(fd)
        self._pipes.clear()
        self._control = self._alarm = -1
        self._attempts = 0
        self._remove()

    def _remove(self) -> None:
        if not self._leaf.remove() and self._attempts < _REMOVE_CHECKS:
            self._attempts += 1
            self._leaf.kill()
            self._loop.call_later(_AGAIN_SECONDS, self._remove)
            return
        self.freed = True
        self._listener.freed()

    # --------------------------------------------------------------------------------- evidence

    def _reported(
        self, order: Order, status: int, wall_ns: int, cpu_us: int, maxrss_kb: int
    ) -> PodEnd:
        """Combine process 1's report with the group's counters, narrowest cause first."""
        counted = self._leaf.counters()
        has_group = counted.cpu_seconds is not None
        usage = Usage(
            wall_seconds=wall_ns / 1e9,
            cpu_seconds=counted.cpu_seconds if has_group else cpu_us / 1e6,
            peak_memory_kb=counted.peak_memory_kb if has_group else maxrss_kb,
            source="cgroup" if has_group else "wait4",
            complete=has_group,
        )
        cause, message = self._cause(order)
        if cause is None and os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            refused = self._leaf.refused_forks()
            cause, message = Cause.SIGNAL, f"It was ended by signal {number} ({_name(number)})."
            if refused:
                cause = Cause.PROCESSES
                message = (
                    f"It reached its limit of {self._limits.processes} processes, was refused "
                    f"{refused} more and was ended by signal {number} ({_name(number)})."
                )
        return PodEnd(
            cause=cause or Cause.EXIT,
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            message=message,
            usage=usage,
            stdout=self._capture.captured("stdout"),
            stderr=self._capture.captured("stderr"),
            output_chunks=self._chunks(),
        )

    def _unreported(self, status: int) -> PodEnd:
        """Name the end of a run whose process 1 did not live to tell it."""
        if not self.started:
            words = self._capture.forget_stderr().strip()
            cause, message = Cause.CONTAINER_START, words or f"The sandbox ended with {status}."
            if self._lost:
                cause, message = Cause.POD_LOST, "The service stopped before it had started."
            elif self._asked is Order.CANCEL:
                cause, message = Cause.CANCELLED, "It was cancelled before it had started."
            elif self._leaf.memory_kills():
                cause, message = Cause.OUT_OF_MEMORY, self._memory_message()
            elif self._late:
                cause = Cause.START_DEADLINE
                message = f"It had not started after {_START_SECONDS:g} s."
            return PodEnd(cause, started=False, message=message[:500])
        found, message = self._cause(self._asked)
        counted = self._leaf.counters()
        has_group = counted.cpu_seconds is not None
        usage = Usage(
            wall_seconds=self._loop.time() - self._started_at,
            cpu_seconds=counted.cpu_seconds,
            peak_memory_kb=counted.peak_memory_kb,
            source="cgroup" if has_group else "wait4",
            complete=has_group,
        )
        return PodEnd(
            cause=found or Cause.UNKNOWN,
            message=message or "Its process 1 ended without a report.",
            usage=usage,
            stdout=self._capture.captured("stdout"),
            stderr=self._capture.captured("stderr"),
            output_chunks=self._chunks(),
        )

    def _cause(self, order: Order) -> tuple[Cause | None, str]:
        """Return the cause that is not the script's own doing, and its sentence."""
        total = self._capture.total_bytes
        if order is Order.CANCEL and self._lost:
            return Cause.POD_LOST, "The service that ran it was stopped, or it was removed."
        if order is Order.CANCEL:
            return Cause.CANCELLED, "It was cancelled while it ran."
        if order is Order.MEMORY or self._leaf.memory_kills():
            return Cause.OUT_OF_MEMORY, self._memory_message()
        if order is Order.DEADLINE:
            return Cause.DEADLINE, f"It ran longer than its limit of {self._timeout:g} s."
        if order is Order.FLOOD or total > self._limits.output_drained_bytes:
            return Cause.OUTPUT_FLOOD, (
                f"It printed more than its limit of {self._limits.output_drained_bytes} bytes "
                f"({total} were read)."
            )
        return None, ""

    def _memory_message(self) -> str:
        peak = self._leaf.counters().peak_memory_kb
        seen = "" if peak is None else f" (its peak was {peak} KiB)"
        return f"It used up its memory limit of {self._limits.memory_bytes // 1024} KiB{seen}."

    def _chunks(self) -> int:
        """Count what was said and what `_finish` is about to say."""
        return self._capture.chunks + self._capture.waiting()


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]


def _stdin(data: bytes, theirs: list[int]) -> int:
    """Return the reading end of something that holds all of `data`: nobody has to feed it."""
    if len(data) <= _LARGEST_PIPE_BYTES:
        reader, writer = os.pipe()
        theirs += (reader, writer)
        os.set_blocking(writer, False)
        with contextlib.suppress(OSError):
            if len(data) > _PIPE_BYTES:
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _LARGEST_PIPE_BYTES)
            if os.write(writer, data) == len(data):
                return reader
    sealed = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    theirs.append(sealed)
    _write_all(sealed, data)
    os.lseek(sealed, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, seals)
    return sealed


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
