"""Running a script on a system that runs: what is printed where, and the exit code."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.processes import COMMAND, Shell, lines

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
ALL_BYTES = bytes(range(256))
TICKING = (
    "import time\nfor n in range(150):\n    print('tick', n, flush=True)\n    time.sleep(0.1)\n"
)


def test_output_comes_byte_for_byte(system: Shell) -> None:
    """Whatever the bytes are, and each stream on its own side."""
    text = (
        "import sys\n"
        "sys.stdout.buffer.write(bytes(range(256)) * 100)\n"
        "sys.stdout.buffer.flush()\n"
        "sys.stderr.buffer.write('ä€\\n'.encode() + b'\\xff')\n"
    )

    ran = system.run("run", "--quiet", system.script("bytes.py", text))

    assert ran.stdout == ALL_BYTES * 100
    assert ran.stderr == "ä€\n".encode() + b"\xff"


def test_phases_are_told_on_standard_error(system: Shell) -> None:
    """Data and talk are apart; each phase once, in its order, with the time since the request."""
    ran = system.run("run", system.script("hello.py", "print('hello')"))

    words = [line.split()[1] for line in lines(ran.stderr)]
    assert ran.stdout == b"hello\n"
    assert words == [
        "execution", "queued", "scheduled", "launching", "running", "stored", "completed,"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        pytest.param("exit 0", (), 0, id="success"),
        pytest.param("exit 42", (), 42, id="its own"),
        pytest.param("kill -SEGV $$", (), 139, id="signal"),
        pytest.param("sleep 60", ("--timeout", "1"), 124, id="timeout"),
        pytest.param("exit 0", ("--timeout", "100000"), 126, id="refused"),
    ],
)
def test_exit_code_is_the_scripts_or_stands_for_it(
    system: Shell, text: str, options: tuple[str, ...], code: int
) -> None:
    """So that `integr8s run` can stand where the script stood."""
    ran = system.run("run", *options, system.script("end.sh", text))

    assert ran.returncode == code, ran.stderr.decode()


def test_output_before_a_timeout_is_kept(system: Shell) -> None:
    """What was printed in time came in time."""
    path = system.script("slow.sh", "echo early; sleep 60")

    ran = system.run("run", "--timeout", "1", path)

    assert ran.stdout == b"early\n"
    assert "timeout" in lines(ran.stderr)[-1]


def test_cut_output_is_told(system: Shell) -> None:
    """Exactly the bytes that are kept, and a word about the rest beside them."""
    path = system.script("flood.py", "import os\nos.write(1, b'x' * 600_000)\n")

    ran = system.run("run", path)

    assert ran.stdout == b"x" * 512 * 1024
    assert "stdout truncated" in lines(ran.stderr)[-1]


def test_inputs_reach_the_script(system: Shell) -> None:
    """Arguments from both sides, standard input, files beside the script."""
    system.script("data.txt", "from a file")
    text = (
        "import pathlib, sys\n"
        "print(sys.argv[1:], sys.stdin.read())\n"
        "print(pathlib.Path(__file__).with_name('in.txt').read_text())\n"
    )
    path = system.script("inputs.py", text)

    ran = system.run(
        "run", "-q", "--stdin", "-", "--arg", "a", "--file", "in.txt=data.txt", path, "--", "-b",
        stdin=b"from stdin",
    )  # fmt: skip

    assert lines(ran.stdout) == ["['a', '-b'] from stdin", "from a file"]


def test_script_from_standard_input(system: Shell) -> None:
    """A dash stands for it; its first line names the language."""
    ran = system.run("run", "-q", "-", stdin=b"#!/usr/bin/env bash\necho $0 $BASH_VERSION\n")

    assert ran.returncode == 0
    assert b"main.sh" in ran.stdout


def test_json_is_one_object_on_standard_output(system: Shell) -> None:
    """The result, with the output in it; the exit code stays the script's."""
    path = system.script("three.sh", "echo out; echo err >&2; exit 3")

    ran = system.run("run", "--json", path)

    result = json.loads(ran.stdout)
    assert (result["stdout"], result["stderr"], ran.returncode) == ("out\n", "err\n", 3)


def test_detached_run_can_be_come_back_to(system: Shell) -> None:
    """Only the id at once; following later gives what following at once would have given."""
    detached = system.run("run", "--detach", system.script("five.sh", "echo five; exit 5"))

    followed = system.run("logs", "--follow", "--quiet", detached.stdout.decode().strip())

    assert (followed.stdout, followed.returncode) == (b"five\n", 5)


def test_same_key_runs_once(system: Shell) -> None:
    """A script around us may try again without fear."""
    path = system.script("once.sh", "date +%N")

    ids = {system.run("run", "-d", "--key", "once-1", path).stdout for _ in range(2)}

    assert len(ids) == 1


def test_reader_that_has_seen_enough_ends_it_quietly(system: Shell) -> None:
    """`integr8s run x | head -1` is no reason for a traceback."""
    path = system.script("much.py", "import os\nfor _ in range(50): os.write(1, b'y' * 9_999)\n")
    reader, writer = os.pipe()
    running = subprocess.Popen(
        [*COMMAND, "run", "--quiet", path],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=system.environment,
    )
    os.close(writer)

    os.read(reader, 10)
    os.close(reader)
    _, errors = running.communicate()

    assert (running.returncode, errors) == (141, b"")


def test_one_interrupt_lets_it_run_on(system: Shell) -> None:
    """And says how to come back."""
    with system.terminal("run", system.script("tick.py", TICKING)) as terminal:
        terminal.wait_for("tick 1")
        terminal.interrupt()
        terminal.wait_for("come back with: integr8s logs -f")
        code = terminal.exit_code()

    execution_id = terminal.shown.rpartition("logs -f ")[2].split()[0]
    shown = json.loads(system.run("show", "--json", execution_id).stdout)
    system.run("cancel", execution_id)
    assert (code, shown["status"]) == (130, "running")


def test_second_interrupt_cancels_it(system: Shell) -> None:
    """Within the moment in which the note is read."""
    with system.terminal("run", system.script("tick.py", TICKING)) as terminal:
        terminal.wait_for("tick 1")
        terminal.interrupt()
        terminal.wait_for("come back with")
        terminal.interrupt()
        code = terminal.exit_code()

    assert code == 125
    assert "cancelled: Ctrl-C" in terminal.shown


def test_terminal_has_one_line_of_phases(system: Shell) -> None:
    """Rewritten as they come, and out of the way when the script speaks."""
    with system.terminal("run", system.script("hello.py", "print('hello')")) as terminal:
        code = terminal.exit_code()

    last = terminal.shown.split("\x1b[2K")[-1]
    assert code == 0
    assert last.startswith("queued 0 ms > scheduled")
    assert "\r\nhello\r\n" in last


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(("run", "absent.py"), 2, "absent.py cannot be read", id="no file"),
        pytest.param(("run", "binary.py"), 126, "not valid UTF-8 at byte 0", id="no text"),
        pytest.param(("run", "noname"), 2, "--lang", id="no language"),
        pytest.param(("run", "--lang", "cobol", "ok.py"), 126, "choose one of", id="unknown lang"),
        pytest.param(("run", "--version", "2.7", "ok.py"), 126, "choose one of", id="old version"),
        pytest.param(("run", "--priority", "now", "ok.py"), 126, "priority", id="no priority"),
        pytest.param(("run", "--stdin", "-", "-"), 2, "Standard input", id="one stdin for two"),
        pytest.param(("run", "--key", "ä", "ok.py"), 126, "Idempotency-Key", id="odd key"),
        pytest.param(("rnu", "ok.py"), 2, "Did you mean 'run'?", id="typo"),
        pytest.param(("run", "--langg", "x", "ok.py"), 2, "--lang", id="typo in an option"),
        pytest.param(("show", "nonsense"), 1, "There is no such execution", id="unknown id"),
        pytest.param(("cancel", "nonsense"), 1, "There is no such execution", id="cancel nothing"),
        pytest.param(("logs", "-f", "no"), 1, "There is no such execution", id="follow nothing"),
        pytest.param(("pump", "nobody"), 1, "coordinate", id="unknown function"),
    ],
)
def test_wrong_call_is_one_sentence(
    system: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """What is wrong and what would be right; never a traceback."""
    system.script("ok.py", "print(1)")
    system.script("noname", "print(1)")
    (system.folder / "binary.py").write_bytes(b"\xff\x00")

    ran = system.run(*arguments)

    assert ran.returncode == code
    assert words in ran.stderr.decode()
    assert b"Traceback" not in ran.stderr


def test_list_show_and_result_agree(system: Shell) -> None:
    """Three views of one execution."""
    execution_id = json.loads(
        system.run("run", "--json", system.script("seen.sh", "echo seen")).stdout
    )["execution_id"]

    listed = json.loads(system.run("list", "--limit", "200", "--json").stdout)["executions"]
    shown = json.loads(system.run("show", "--json", execution_id).stdout)
    result = system.run("result", execution_id)

    assert execution_id in [one["execution_id"] for one in listed]
    assert (shown["status"], shown["script"]) == ("completed", "echo seen")
    assert (result.stdout, result.returncode) == (b"seen\n", 0)


def test_list_for_a_pipe_has_whole_ids_in_columns(system: Shell) -> None:
    """`cut` and `awk` are users too."""
    execution_id = system.run("run", "-d", system.script("hi.sh", "echo")).stdout.decode().strip()

    listed = lines(system.run("list").stdout)

    assert listed[0].split() == ["ID", "STATUS", "EXIT", "LANGUAGE", "CREATED", "WALL"]
    assert listed[1].split()[0] == execution_id


def test_cancel_ends_a_running_script(system: Shell) -> None:
    """Whoever follows it sees it end as cancelled."""
    following = system.start("run", system.script("tick.py", TICKING))
    assert following.stdout is not None
    assert following.stderr is not None
    execution_id = following.stderr.readline().decode().split()[-1]
    following.stdout.readline()

    cancelled = system.run("cancel", "--reason", "enough", execution_id)
    _, errors = following.communicate()

    assert cancelled.returncode == 0
    assert following.returncode == 125
    assert lines(errors)[-1].startswith("integr8s: cancelled: enough")


def test_scaling_shows_every_function(system: Shell) -> None:
    """Awake or asleep, and why."""
    shown = json.loads(system.run("scaling", "--json").stdout)["functions"]

    assert {"submit", "coordinate", "relay-events"} <= {one["slug"] for one in shown}
    assert all(one["reason"] for one in shown)


def test_watched_scaling_tells_changes(system: Shell) -> None:
    """One line for each change, until it is interrupted."""
    watching = system.start("scaling", "--watch")
    assert watching.stdout is not None
    first = watching.stdout.readline().decode()

    watching.send_signal(2)
    _, errors = watching.communicate()

    assert first.split()[1] == "coordinate"
    assert (watching.returncode, errors) == (0, b"")


def test_version_is_that_of_the_package(system: Shell) -> None:
    """Both spellings."""
    long, short = system.run("--version"), system.run("-V")

    assert long.stdout == short.stdout
    assert long.stdout.startswith(b"integr8s ")
    assert sys.executable == COMMAND[0]
