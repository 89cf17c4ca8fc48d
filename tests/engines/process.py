"""Processes that outlive the command that started them, and are found again by the next one.

Each has a record in the state: pid, program and start time. A pid alone means nothing after a
while, because the kernel gives it to somebody else; no signal is sent before all three agree.

The command of a process must be the program itself: a wrapper that replaces itself by another
program (nsenter, env) is not recognised afterwards.
"""

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.engines import paths
from tests.engines.build_cache import locked
from tests.engines.engine import EngineError

_SOON, _LATER = 0.05, 0.25
_TAIL_LINES = 25
_TAIL_BYTES = 16_384
_REPLACED = " (deleted)"
"""What the kernel appends when the program's file was replaced, by a new build for example."""
_children: set[int] = set()
"""Those that this very process started; they stay zombies until it asks for their exit status."""


@dataclass(frozen=True)
class Started:
    """One process as it was when it started."""

    name: str
    pid: int
    exe: str
    started_ticks: int
    """Clock ticks from the machine's boot to its start: tells it from a later owner of its pid."""


# ------------------------------------------------------------------------------------- life, death


def start(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Started:
    """Start a process in a session of its own; if it is running, return it as it is.

    What it prints is appended to its log. It has no standard input.

    Args:
        name: By which it is found again.
        command: The program and its arguments.
        env: Its whole environment; without one it gets ours.
        cwd: Its working folder; without one it gets the checkout.

    Raises:
        EngineError: There is no such program.
    """
    with locked(paths.STATE / "run" / f"{name}.lock"):
        if found := running(name):
            return found
        # From the spawn to the record nothing may come in between: a process without a record is
        # one that nobody stops.
        with _undisturbed():
            started = _spawn(name, command, env, cwd or paths.ROOT)
            _write(started)
        return started


def running(name: str) -> Started | None:
    """Return the process of this name, or None where it does not run, or no longer."""
    started = _read(name)
    return started if started and _is_alive(started) else None


def expect_running(name: str) -> None:
    """Make sure that a process runs.

    Raises:
        EngineError: It does not.
    """
    if running(name) is None:
        raise EngineError(f"{name} does not run: start it first")


def recorded() -> list[str]:
    """Return the names of all processes with a record, running or not."""
    return sorted(path.stem for path in (paths.STATE / "run").glob("*.json"))


def stop(
    name: str,
    *,
    grace: float = 10,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL),
) -> None:
    """End a process and forget it; nothing happens where it does not run.

    Args:
        name: Its name.
        grace: Seconds that it has after each signal.
        signals: What it is sent, one after the other, until it is gone.

    Raises:
        EngineError: It was still there after the last one.
    """
    for number in signals:
        if not _signalled(name, number, wait=grace):
            _record_of(name).unlink(missing_ok=True)
            return
    names = ", ".join(number.name for number in signals)
    raise EngineError(
        f"{name} did not end within {grace:g} s after {names}; see {log_of(name)}, and try again"
    )


def pause(name: str) -> None:
    """Freeze a process, as a machine that hangs.

    Raises:
        EngineError: It does not run.
    """
    _expect_signal(name, signal.SIGSTOP)


def resume(name: str) -> None:
    """Let a frozen process go on.

    Raises:
        EngineError: It does not run.
    """
    _expect_signal(name, signal.SIGCONT)


def kill(name: str) -> None:
    """End a process as a power switch would, and wait until it is gone.

    Raises:
        EngineError: It does not run.
    """
    _expect_signal(name, signal.SIGKILL, wait=10)


# ------------------------------------------------------------------------------------------- ready


def wait_ready(
    what: str,
    probe: Callable[[], object],
    *,
    seconds: float,
    process: str | None = None,
) -> None:
    """Ask until there is an answer.

    Args:
        what: Who is asked, for the message.
        probe: Asks once. It says no by raising anything, or by returning False.
        seconds: How long to go on.
        process: The process behind it; once that has died nobody waits any longer.

    Raises:
        EngineError: There was none, with the last no and the end of the log.
    """
    deadline = time.monotonic() + seconds
    rest = _SOON
    with _handle_of(process) as handle:
        while True:
            answer = _asked(probe)
            if answer is None:
                return
            if process and not running(process):
                raise EngineError(_obituary(f"{what} is not ready: it has ended", process, answer))
            if time.monotonic() >= deadline:
                raise EngineError(
                    _obituary(f"{what} is not ready after {seconds:g} s", process, answer)
                )
            _rest(handle, min(rest, max(0.0, deadline - time.monotonic())))
            rest = min(rest * 1.5, _LATER)


def log_of(name: str) -> Path:
    """Return the file that everything the process prints goes to."""
    return paths.STATE / "log" / f"{name}.log"


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = opened.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def memory_bytes(started: Started) -> int:
    """Return the resident memory of a process without its children, 0 where it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{started.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


# ----------------------------------------------------------------------------------------- records


def _record_of(name: str) -> Path:
    return paths.STATE / "run" / f"{name}.json"


def _read(name: str) -> Started | None:
    try:
        return Started(**json.loads(_record_of(name).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise EngineError(
            f"{_record_of(name)} is no process record ({error}): end {name} by hand, delete it"
        ) from error


def _write(started: Started) -> None:
    record = _record_of(started.name)
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(started)))
    partial.rename(record)


# --------------------------------------------------------------------------------------- processes


def _spawn(name: str, command: Sequence[str], env: Mapping[str, str] | None, cwd: Path) -> Started:
    log = log_of(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        try:
            child = subprocess.Popen(
                list(command),
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C in this terminal is not meant for it
            )
        except OSError as error:
            raise EngineError(f"{name} cannot be started: {error}") from error
    _children.add(child.pid)
    child.returncode = 0  # or Popen complains at our own end about one that is to outlive us
    # Popen returns after the program was loaded, so /proc speaks of the program and not of us. One
    # that has ended since is a zombie, which has a start time but no program any more.
    state, ticks = _stat(child.pid) or ("Z", 0)
    return Started(name, child.pid, "" if state == "Z" else _exe(child.pid), ticks)


def _is_alive(started: Started) -> bool:
    if started.pid in _children:
        _reap(started.pid)
    found = _stat(started.pid)
    return (
        found is not None
        and found[0] not in "ZX"
        and found[1] == started.started_ticks
        and _exe(started.pid) == started.exe
    )


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            return
    _children.discard(pid)


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state and start time of a process, None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets; it may itself hold blanks and brackets.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _exe(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(_REPLACED)
    except OSError:
        return ""


# ----------------------------------------------------------------------------------------- signals


def _signalled(name: str, number: signal.Signals, *, wait: float = 0) -> bool:
    """Send a signal to a process if it runs; return whether it runs after the wait."""
    with _handle_of(name) as handle:
        if handle is None:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
            if number is signal.SIGTERM:
                # A frozen one takes no notice before it goes on.
                signal.pidfd_send_signal(handle, signal.SIGCONT)
        _rest(handle, wait)
    return running(name) is not None


def _expect_signal(name: str, number: signal.Signals, *, wait: float = 0) -> None:
    expect_running(name)
    _signalled(name, number, wait=wait)


@contextmanager
def _handle_of(name: str | None) -> Iterator[int | None]:
    """Give a handle of a running process, which cannot come to mean another one."""
    started = running(name) if name else None
    handle = None
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(started.pid) if started else None
    try:
        # Looked at again: between the look and the handle the pid may have changed hands.
        yield handle if started and _is_alive(started) else None
    finally:
        if handle is not None:
            os.close(handle)


def _rest(handle: int | None, seconds: float) -> None:
    """Wait, no longer than the process lives: a handle becomes readable when it ends."""
    select.select([] if handle is None else [handle], [], [], seconds)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end of the block.

    Handlers, not a mask: a mask would be inherited by the process that is started in the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread alone
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda one, _: came.append(one)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


# ---------------------------------------------------------------------------------------- messages


def _asked(probe: Callable[[], object]) -> str | None:
    """Return why the probe said no, None where it said yes."""
    try:
        answer = probe()
    except Exception as error:  # noqa: BLE001 - any failure of any client means: not yet
        return f"{type(error).__name__}: {error}"
    return "it said no" if answer is False else None


def _obituary(sentence: str, process: str | None, answer: str) -> str:
    if process is None:
        return f"{sentence}; last answer: {answer}"
    log = log_of(process)
    return f"{sentence}; last answer: {answer}\nEnd of {log}:\n{tail(log)}"
