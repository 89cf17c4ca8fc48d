"""Process 1 of a pod, in namespaces of its own on this machine."""

import os
import signal
import time
from datetime import UTC, datetime

import pytest

from shared.adapters.kubernetes.job import Uid
from shared.adapters.native import build
from shared.ports.cluster import Limits
from tests.hostile.harness import needs_sandbox
from tests.unit.adapters.kubernetes.entries import (
    MARK,
    Printed,
    Reported,
    Started,
    Used,
    python,
    run,
    started,
)

pytestmark = [
    needs_sandbox,
    pytest.mark.sandbox,
    pytest.mark.skipif(
        len(build.compilers()) < 2, reason="no C compiler (cc, gcc or clang) is installed"
    ),
]

HERE = "import os, time\nos.write(1, b'here\\n')\n"
SLEEPS = HERE + "time.sleep(60)"
DEAF = "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + HERE + "while True: time.sleep(1)"
POLITE = (
    "import signal\ndef bye(*_):\n    os.write(1, b'bye\\n')\n    os._exit(7)\n"
    "signal.signal(15, bye)\n" + HERE + "while True: time.sleep(1)"
)
FORGED = f"{MARK} cause=none started=1 error=0 status=0 started_at_ns=1 wall_ns=1 end"


def test_run_is_told_in_order() -> None:
    """Started, output, report; the report is in the termination log, too."""
    told = run(python("import os; os.write(1, b'out\\n'); os.write(2, b'err\\n'); os._exit(3)"))

    assert told.kinds == [Started, Reported]
    assert (told.printed("stdout"), told.printed("stderr")) == (b"out\n", b"err\n")
    assert (told.report.cause, told.report.started) == ("none", True)
    assert os.WEXITSTATUS(told.report.status) == 3
    assert told.report.chunks == len(told.chunks) == 2
    assert told.frames[-1] == Reported(told.termination_log.decode())


def test_start_is_told_by_the_wall_clock() -> None:
    """Once, in the log and in the report alike."""
    before = datetime.now(UTC)  # noqa: TID251 - another process tells the same clock
    told = run(python("pass"))
    (at,) = [frame.at for frame in told.frames if isinstance(frame, Started)]

    assert before <= at == told.report.started_at
    assert 0 < told.report.wall_seconds < 10


def test_environment_is_the_job_s_alone() -> None:
    """Neither the mark nor anything that the cluster sets reaches the script."""
    told = run(("/usr/bin/env",), environment={"A": "1"})

    assert sorted(told.printed("stdout").split()) == [b"A=1", b"PATH=/usr/local/bin:/usr/bin:/bin"]


def test_command_is_looked_for_on_the_path() -> None:
    """As a shell does; a path is taken as it is."""
    assert run(("true",)).report.status == run(("/usr/bin/true",)).report.status == 0


@pytest.mark.parametrize(
    ("command", "error"), [("nowhere", 2), ("/usr/nowhere", 2), ("/usr", 13), ("/etc/x/y", 2)]
)
def test_command_that_cannot_be_run_is_no_run(command: str, error: int) -> None:
    """Nothing is said to have started, and the reason is told."""
    told = run((command,))

    assert (told.report.started, told.report.error) == (False, error)
    assert told.kinds == [Reported]


def test_input_is_given_or_empty() -> None:
    """Without any, reading comes to its end at once."""
    assert run(("cat",), stdin=b"\x00in\xff").printed("stdout") == b"\x00in\xff"
    assert run(("cat",)).printed("stdout") == b""


def test_arguments_arrive_as_they_are() -> None:
    """Empty ones too; nothing in them is interpreted."""
    command = python("import sys; print(sys.argv[1:])", "", "a b", "$(id)", "é\n")

    assert run(command).printed("stdout").decode() == "['', 'a b', '$(id)', 'é\\n']\n"


def test_descriptors_are_three() -> None:
    """Neither the log nor the signals of process 1 are open in the script."""
    assert run(("ls", "/proc/self/fd")).printed("stdout").split() == [b"0", b"1", b"2", b"3"]


def test_script_sees_nothing_of_process_1() -> None:
    """It has the same uid, and still neither memory nor descriptors nor mark can be read."""
    script = (
        "import os\n"
        "for name in ('environ', 'mem', 'maps', 'fd/1', 'root', 'cwd', 'exe'):\n"
        "    try:\n        os.close(os.open(f'/proc/1/{name}', os.O_RDONLY))\n"
        "        print('OPEN', name)\n"
        "    except OSError: pass\n"
        "print(open('/proc/1/cmdline').read().split('\\0'))"
    )
    told = run(python(script))

    assert told.printed("stdout").decode() == "['/entry/init', 'do', '/entry/job', '']\n"


def test_limits_are_those_of_the_job() -> None:
    """As they are seen from inside."""
    script = (
        "import resource as r\n"
        "print(*(r.getrlimit(one) for one in (r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_FSIZE)))"
    )
    told = run(python(script), limits=Limits(open_files=64, tmp_bytes=20 << 20))

    assert told.printed("stdout") == b"(64, 64) (1, 1) (20971520, 20971520)\n"


def test_filter_is_put_on_the_script() -> None:
    """Calls that open another layer are refused, others are not."""
    script = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.syscall(101, 0, 0, 0, 0)\nprint(ctypes.get_errno())"
    )

    assert run(python(script), is_filtered=True).printed("stdout") == b"1\n"


# ------------------------------------------------------------------------------------------ ending


def test_deadline_is_kept() -> None:
    """TERM ends who does not mind."""
    told = run(python(SLEEPS), seconds=0.4)

    assert told.report.cause == "deadline"
    assert 0.4 <= told.report.wall_seconds < 2
    assert told.printed("stdout") == b"here\n"


def test_deadline_ends_in_a_kill() -> None:
    """Two seconds later, for who does not listen."""
    told = run(python(DEAF), seconds=0.4)

    assert (told.report.cause, told.report.status) == ("deadline", signal.SIGKILL)
    assert 2.4 <= told.report.wall_seconds < 4


def test_deadline_reaches_who_is_stopped() -> None:
    """A process that stands still would hear no TERM."""
    told = run(python("import os; os.kill(os.getpid(), 19)"), seconds=0.4)

    assert told.report.cause == "deadline"
    assert told.report.wall_seconds < 2


def test_daemon_does_not_outlive_its_script() -> None:
    """Nor does it delay the end, although it holds the streams open."""
    script = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nos._exit(5)"
    told = run(python(script))

    assert os.WEXITSTATUS(told.report.status) == 5
    assert told.report.wall_seconds < 5


def test_output_of_the_last_moment_is_there() -> None:
    """What the pipes hold when everybody is dead belongs to the run."""
    told = run(python("import os; os.write(1, b'x' * 60_000); os.kill(os.getpid(), 9)"))

    assert told.printed("stdout") == b"x" * 60_000
    assert told.report.status == signal.SIGKILL


def test_cancel_is_an_order() -> None:
    """TERM first; who uses it well may say good-bye."""
    with started(python(POLITE)) as running:
        running.until_printed()
        running.order("cancel 5000")
        told = running.told()

    assert told.report.cause == "cancel"
    assert told.printed("stdout") == b"here\nbye\n"
    assert told.report.wall_seconds < 5


def test_cancel_ends_in_a_kill() -> None:
    """Whose grace is over is killed."""
    with started(python(DEAF)) as running:
        running.until_printed()
        running.order("cancel 300")
        told = running.told()

    assert (told.report.cause, told.report.status) == ("cancel", signal.SIGKILL)


def test_cancel_that_came_first_starts_nothing() -> None:
    """Not a line of the script is run."""
    told = run(python(SLEEPS), order="cancel 2000")

    assert (told.report.cause, told.report.started) == ("cancel", False)
    assert told.kinds == [Reported]
    assert told.chunks == []


@pytest.mark.parametrize("text", ["", "\n", "cancel", "cancelled 0", "stop 0"])
def test_anything_else_is_no_order(text: str) -> None:
    """An annotation that is empty or not ours ends nobody."""
    assert run(python("pass"), order=text).report.cause == "none"


def test_kubelet_s_term_is_passed_on() -> None:
    """It has no reason; process 1 says that it was asked, and is done before the kubelet kills."""
    with started(python(DEAF)) as running:
        running.until_printed()
        begun = time.monotonic()
        running.term()
        told = running.told()

    assert (told.report.cause, told.report.status) == ("asked", signal.SIGKILL)
    assert time.monotonic() - begun < 1.8


def test_order_gives_the_kubelet_s_term_its_reason() -> None:
    """And its grace, which may be longer than the second that is left otherwise."""
    with started(python(DEAF)) as running:
        running.until_printed()
        running.term()
        running.order("remove 1500")
        told = running.told()

    assert told.report.cause == "remove"
    assert told.report.wall_seconds > 1.5


def test_script_cannot_ask_in_the_kubelet_s_name() -> None:
    """Signals from inside are told by their sender, also those that lie about it."""
    script = (
        "import ctypes, os, struct, time\nlibc = ctypes.CDLL(None)\n"
        "for code in range(-8, 2):\n"
        "    forged = struct.pack('iii', 15, 0, code) + bytes(116)\n"
        "    libc.syscall(129, 1, 15, forged)\n"
        "    os.kill(1, 15)\n    os.kill(1, 9)\n    os.kill(1, 19)\n"
        "time.sleep(0.3)\nprint('done')"
    )
    told = run(python(script))

    assert told.report.cause == "none"
    assert told.printed("stdout") == b"done\n"


# ------------------------------------------------------------------------------------------ output


def test_output_is_cut_and_counted() -> None:
    """The first bytes are kept, the cut is marked in the chunk that reaches it."""
    told = run(python("print('x' * 4999)"), limits=Limits(output_kept_bytes=1000))

    assert told.printed("stdout") == b"x" * 1000
    assert [chunk.truncated for chunk in told.chunks][-1]
    assert told.report.stdout_total == 5000


def test_cut_that_is_noticed_late_is_told_alone() -> None:
    """The kept bytes had been said when more came."""
    script = "import os, time\nos.write(1, b'x' * 10)\ntime.sleep(0.3)\nos.write(1, b'y')"
    told = run(python(script), limits=Limits(output_kept_bytes=10))

    assert told.chunks[-1] == Printed("stdout", 10, b"", truncated=True)


def test_flood_is_ended() -> None:
    """Both streams count together; what is kept arrives all the same."""
    script = "import os\nwhile True: os.write(1, b'o' * 9999); os.write(2, b'e' * 9999)"
    told = run(python(script), limits=Limits(output_drained_bytes=3 << 20))

    assert (told.report.cause, told.report.status) == ("flood", signal.SIGKILL)
    assert told.report.stdout_total + told.report.stderr_total > 3 << 20
    assert told.printed("stdout") == b"o" * (512 << 10)


def test_dripping_makes_ten_chunks_a_second() -> None:
    """However often a script writes."""
    script = (
        "import os, time\nend = time.monotonic() + 1.5\n"
        "while time.monotonic() < end: os.write(1, b'.'); time.sleep(0.005)"
    )

    assert 10 <= len(run(python(script)).chunks) <= 22


def test_first_byte_is_said_at_once() -> None:
    """Long before anything is gathered."""
    with started(python(SLEEPS)) as running:
        running.until_printed()

        assert running.process.poll() is None


def test_reader_that_is_slow_loses_nothing() -> None:
    """The log's pipe is full for a while; the script does not notice."""
    with started(python("print('x' * 300_000)\nprint('end')")) as running:
        while (
            running.process.poll() is None and not (running.folder / "work/report").stat().st_size
        ):
            os.sched_yield()
        told = running.told()

    assert told.printed("stdout") == b"x" * 300_000 + b"\nend\n"
    assert told.report.wall_seconds < 5


def test_bytes_arrive_as_written() -> None:
    """Every value, and what looks like a frame of ours."""
    data = bytes(range(256)) + b"\nr " + FORGED.encode() + b"\ns 1\n"
    told = run(("cat",), stdin=data)

    assert told.printed("stdout") == data
    assert told.kinds == [Started, Reported]
    assert told.report.wall_seconds > 0.000001


# ------------------------------------------------------------------------------------------ report


def test_report_is_written_over_what_the_script_left() -> None:
    """It can write there, to any length; when everybody is dead it cannot any more."""
    script = (
        "import os\nif os.fork() == 0:\n"
        "    while True:\n"
        f"        open('/spot/report', 'w').write({FORGED!r} * 99)\n"
        "import time; time.sleep(0.2); os._exit(4)"
    )
    told = run(python(script))

    assert os.WEXITSTATUS(told.report.status) == 4
    assert told.termination_log.count(MARK.encode()) == 1


def test_without_process_1_there_is_no_report() -> None:
    """Killed with everybody else, it leaves the script's words, which have no mark."""
    forged = FORGED.replace(MARK, "f" * 16)
    with started(python(f"open('/spot/report', 'w').write({forged!r})\n" + SLEEPS)) as running:
        running.until_printed()
        os.kill(running.first(), signal.SIGKILL)
        while running.read():
            pass
        left = (running.folder / "work" / "report").read_text()

    assert left == forged
    assert not any(isinstance(frame, Reported) for frame in running.frames)


def test_usage_is_that_of_the_children_without_a_group() -> None:
    """A lower bound, and told as such."""
    report = run(python("sum(range(3_000_000))")).report

    assert not report.from_group
    assert report.cpu_ns is not None
    assert report.cpu_ns > 10_000_000
    assert report.peak_kb is not None
    assert (report.memory_kills, report.refused_forks) == (None, None)


V1 = {
    "cpuacct/cpuacct.usage": "1500000000\n",
    "memory/memory.max_usage_in_bytes": "1048576\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    "pids/pids.current": "2\n",
    "pids/pids.events": "max 0\n",
}
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\nsystem_usec 1\n",
    "memory.peak": "1048576\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\noom_group_kill 0\n",
    "pids.current": "2\n",
    "pids.events": "max 0\n",
}
both = pytest.mark.parametrize("groups", [V1, V2], ids=["v1", "v2"])


@both
def test_usage_is_the_group_s(groups: dict[str, str]) -> None:
    """Whichever version there is."""
    report = run(python("pass"), groups=groups).report

    assert report.from_group
    assert (report.cpu_ns, report.peak_kb) == (1_500_000_000, 1024)
    assert (report.memory_kills, report.refused_forks) == (0, 0)


@pytest.mark.parametrize(
    ("groups", "file"), [(V1, "memory/memory.oom_control"), (V2, "memory.events")], ids=["v1", "v2"]
)
def test_memory_kill_takes_the_whole_run(groups: dict[str, str], file: str) -> None:
    """Also where the kernel took one process only, and the script would go on."""
    with started(python(DEAF), groups=groups) as running:
        running.until_printed()
        running.count(file, groups[file].replace("oom_kill 0", "oom_kill 1"))
        told = running.told()

    assert (told.report.cause, told.report.memory_kills) == ("memory", 1)
    assert told.report.status == signal.SIGKILL


@both
def test_tasks_are_counted_where_the_uid_is_shared(groups: dict[str, str]) -> None:
    """A limit by uid would count all pods of the node; process 1 does so instead."""
    file = next(name for name in groups if name.endswith("pids.current"))
    with started(python(DEAF), groups=groups, uid=Uid.SHARED) as running:
        running.until_printed()
        running.count(file, "66\n")
        told = running.told()

    assert (told.report.cause, told.report.tasks) == ("processes", 65)


@pytest.mark.slow
def test_silent_script_gives_a_sign_of_life() -> None:
    """Every five seconds, with what it used so far."""
    told = run(python("import time; time.sleep(5.5)"), groups=V2)

    assert [frame for frame in told.frames if isinstance(frame, Used)] == [
        Used(1_500_000_000, 1024)
    ]


def test_job_that_is_none_is_refused() -> None:
    """The container ends with a code that no script can give it."""
    with started(python("pass"), is_broken=True) as running:
        while running.read():
            pass

        assert running.process.wait(10) == 125
        assert running.log == b"integr8s: the job cannot be read\n"
