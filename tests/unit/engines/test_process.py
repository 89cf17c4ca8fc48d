"""Processes are found again, and nothing but them is ever sent a signal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.engines import paths, process
from tests.engines.engine import EngineError
from tests.engines.process import Started

SLEEP = ["sleep", "60"]
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
STUBBORN = [sys.executable, "-c", DEAF]

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that the framework did not start."""
    with subprocess.Popen(SLEEP) as one:
        yield one
        one.kill()


def record(state: Path, started: Started) -> None:
    """Leave a record as an earlier run would."""
    (state / "run").mkdir(parents=True, exist_ok=True)
    (state / "run" / f"{started.name}.json").write_text(json.dumps(asdict(started)))


def ticks_of(pid: int) -> int:
    """Return when a process was started."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def is_deaf() -> bool:
    """Return whether the stubborn process has begun to ignore SIGTERM."""
    return "deaf" in process.tail(process.log_of("one"))


def test_running_process_is_returned_as_it_is() -> None:
    """A second start finds the first one's process."""
    first = process.start("one", SLEEP)

    again = process.start("one", SLEEP)

    assert again == first == process.running("one")


def test_session_is_its_own() -> None:
    """A Ctrl-C in the terminal of the command does not reach it."""
    started = process.start("one", SLEEP)

    assert os.getsid(started.pid) == started.pid


def test_nothing_is_said_of_what_goes_on(state: Path) -> None:
    """It is meant to outlive the command that started it, which is no reason for a warning."""
    program = "from tests.engines import process; process.start('one', ['sleep', '60'])"

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=paths.ROOT,
        env={**os.environ, "INTEGR8S_ENGINES_STATE": str(state)},  # noqa: TID251 - passed on to a process
        stderr=subprocess.PIPE,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert process.running("one") is not None


def test_stop_is_idempotent() -> None:
    """The second stop, and one of something never started, find nothing to do."""
    process.start("one", SLEEP)

    process.stop("one")
    process.stop("one")
    process.stop("never started")

    assert process.running("one") is None
    assert process.recorded() == []


def test_reused_pid_is_left_alone(state: Path, stranger: subprocess.Popen[bytes]) -> None:
    """The pid of a record that now belongs to somebody else is sent no signal."""
    mine = process.start("one", SLEEP)
    process.stop("one")

    record(state, replace(mine, pid=stranger.pid, started_ticks=ticks_of(stranger.pid) - 1))
    process.stop("one")

    assert stranger.poll() is None
    assert process.recorded() == []


def test_other_program_with_the_same_start_time_is_left_alone(
    state: Path, stranger: subprocess.Popen[bytes]
) -> None:
    """The program must agree as well: start times have a grain of ten milliseconds."""
    mine = process.start("one", SLEEP)
    process.stop("one")

    ticks = ticks_of(stranger.pid)
    record(state, replace(mine, pid=stranger.pid, started_ticks=ticks, exe="/usr/bin/java"))
    process.stop("one")

    assert stranger.poll() is None


def test_pid_of_nobody_is_not_running(state: Path) -> None:
    """After a reboot most recorded pids belong to nobody."""
    record(state, Started("one", pid=2**22, exe="/usr/bin/sleep", started_ticks=1))

    assert process.running("one") is None


def test_dead_child_is_not_running() -> None:
    """A zombie has a pid, a start time and an end: it counts as ended."""
    process.start("one", SLEEP)

    process.kill("one")

    assert process.running("one") is None
    assert process.start("one", SLEEP) == process.running("one")


def test_signals_are_sent_one_after_the_other() -> None:
    """Who does not listen to the first gets the second."""
    process.start("one", STUBBORN)
    process.wait_ready("one", is_deaf, seconds=10, process="one")

    process.stop("one", grace=0.2)

    assert process.running("one") is None


def test_what_may_not_be_killed_is_not_killed() -> None:
    """With SIGTERM as the only signal a process that stays is an error, and keeps its record."""
    process.start("one", STUBBORN)
    process.wait_ready("one", is_deaf, seconds=10, process="one")

    with pytest.raises(EngineError, match=r"did not end within 0.1 s after SIGTERM"):
        process.stop("one", grace=0.1, signals=[signal.SIGTERM])

    process.kill("one")  # raises where the process is gone


def test_frozen_process_can_be_stopped() -> None:
    """A fault test that failed half-way leaves nothing that only SIGKILL could end."""
    process.start("one", SLEEP)
    process.pause("one")

    process.stop("one", grace=5, signals=[signal.SIGTERM])

    assert process.running("one") is None


@pytest.mark.parametrize("act", [process.pause, process.resume, process.kill])
def test_fault_needs_a_process(act: object) -> None:
    """A fault test whose engine is gone already fails, instead of proving nothing."""
    assert callable(act)

    with pytest.raises(EngineError, match="one does not run: start it first"):
        act("one")


def test_program_that_is_missing_is_named() -> None:
    """The message says which process could not be started and why."""
    with pytest.raises(EngineError, match=r"one cannot be started: .*no-such-program"):
        process.start("one", ["no-such-program"])

    assert process.recorded() == []


def test_waiting_ends_with_the_process() -> None:
    """Nobody waits a minute for something that died at once; its last words are shown."""
    process.start("one", ["sh", "-c", "echo no such disk >&2; exit 3"])

    with pytest.raises(EngineError, match=r"(?s)one is not ready: it has ended.*no such disk"):
        process.wait_ready("one", lambda: False, seconds=60, process="one")


def test_waiting_tells_the_last_answer() -> None:
    """What the probe said last is what is wrong."""

    def refused() -> None:
        raise ConnectionRefusedError("port 9092")

    with pytest.raises(EngineError, match=r"after 0.1 s; .* ConnectionRefusedError: port 9092"):
        process.wait_ready("one", refused, seconds=0.1)
