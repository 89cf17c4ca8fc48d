"""The life of a system: up, down, crash, and everything that keeps it from starting."""

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.running import birth_of
from shared.domain.executions import TERMINAL
from tests.cli.processes import Shell, lines

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]


def note_of(shell: Shell) -> dict[str, str]:
    """Return the note that the running system left."""
    note: dict[str, str] = json.loads((shell.data_dir / "running.json").read_text("utf-8"))
    return note


def test_start_says_where_it_is_and_how_to_sign_in(shell: Shell) -> None:
    """The invented password is shown at the first start and never again, nor kept in a log."""
    first = shell.run("up", "--detach").stdout.decode()
    log = (shell.data_dir / "integr8s.log").read_text("utf-8")
    shell.run("down")
    second = shell.run("up", "--detach").stdout.decode()

    assert re.search(r"is ready at http://127\.0\.0\.1:\d+ after", first)
    shown = re.search(r"password +(\S{20})", first)
    assert shown is not None
    assert shown[1] not in log
    assert "password" not in second


def test_secrets_belong_to_their_user_alone(system: Shell) -> None:
    """The key of the command line opens everything."""
    modes = {
        name: oct((system.data_dir / name).stat().st_mode & 0o777)
        for name in ("cli.key", "running.json", "secret.key")
    }
    assert set(modes.values()) == {"0o600"}


def test_status_tells_whether_anything_runs(shell: Shell) -> None:
    """By its exit code as well."""
    before = shell.run("status")
    shell.run("up", "--detach")
    after = shell.run("status")

    assert (before.returncode, after.returncode) == (3, 0)
    assert b"integr8s up -d" in before.stdout
    assert lines(after.stdout)[0].split() == ["status", "ready"]


def test_down_waits_and_may_be_repeated(shell: Shell) -> None:
    """When it returns the process is gone; without one there is nothing to do."""
    shell.run("up", "--detach")
    pid = note_of(shell)["pid"]

    first, second = shell.run("down"), shell.run("down")

    assert (first.returncode, second.returncode) == (0, 0)
    assert birth_of(int(pid)) is None


def test_run_without_a_system_says_what_to_do(shell: Shell) -> None:
    """One sentence, the remedy, and the exit code of a platform that is not there."""
    ran = shell.run("run", shell.script("a.py", "print(1)"))

    assert ran.returncode == 127
    assert "integr8s up -d" in ran.stderr.decode()


def test_second_copy_on_the_same_data_is_refused(system: Shell) -> None:
    """It names the first."""
    second = system.run("up")

    assert second.returncode == 1
    assert "already runs" in second.stderr.decode()
    assert system.run("status").returncode == 0


def test_note_of_a_dead_process_fools_nobody(shell: Shell) -> None:
    """The number of a process that was killed may be somebody else's by now."""
    shell.data_dir.mkdir()
    note = {
        "pid": os.getpid(), "born": "another boot:1", "url": "http://127.0.0.1:1",
        "version": "0", "started_at": "",
    }  # fmt: skip
    (shell.data_dir / "running.json").write_text(json.dumps(note), encoding="utf-8")

    stopped = shell.run("down")
    started = shell.run("up", "--detach")

    assert stopped.stdout.startswith(b"Nothing runs")
    assert started.returncode == 0


def test_port_in_use_is_noticed_before_anything_is_made(shell: Shell) -> None:
    """The data directory is not even created."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = replace(shell, more={"INTEGR8S_PORT": port}).run("up")

    assert ran.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use." in ran.stderr.decode()
    assert not shell.data_dir.exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"INTEGR8S_PORT": "many"}, "INTEGR8S_PORT is not usable", id="no number"),
        pytest.param({"INTEGR8S_HOST": "192.0.2.1"}, "192.0.2.1", id="another's address"),
        pytest.param({"INTEGR8S_DATA_DIR": "/proc/nowhere"}, "cannot be used", id="unwritable"),
        pytest.param({"INTEGR8S_SECRET_KEY": "changeme"}, "SECRET_KEY", id="weak secret"),
        pytest.param({"PATH": "/nonexistent"}, "bubblewrap", id="no bubblewrap"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--detach",)], ids=["attached", "detached"])
def test_what_cannot_start_says_why(
    shell: Shell, more: dict[str, str], words: str, options: tuple[str, ...]
) -> None:
    """One sentence and a remedy on standard error, no traceback, exit code not zero."""
    ran = replace(shell, more=more).run("up", *options)

    told = ran.stderr.decode()
    assert ran.returncode == 1
    assert words in told
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 3


def test_data_of_a_newer_version_is_left_alone(shell: Shell) -> None:
    """It starts again with the version that wrote it."""
    shell.run("up", "--detach")
    shell.run("down")
    path = shell.data_dir / "integr8s.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()

    ran = shell.run("up")

    assert ran.returncode == 1
    assert "newer" in ran.stderr.decode()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (9999,)
    database.close()


def test_stream_outlives_a_kill_and_a_new_start(shell: Shell) -> None:
    """Who follows an execution sees its one end, though the system died in between."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shell = replace(shell, more={"INTEGR8S_PORT": port})
    shell.run("up", "--detach")
    path = shell.script("tick.sh", "for n in $(seq 40); do echo $n; sleep 0.05; done")
    following = shell.start("run", path)
    assert following.stdout is not None
    following.stdout.readline()

    os.kill(int(note_of(shell)["pid"]), signal.SIGKILL)
    again = shell.run("up", "--detach")
    _, errors = following.communicate()

    told = errors.decode()
    assert again.returncode == 0, again.stderr.decode()
    assert "the stream broke off" in told
    listed = json.loads(shell.run("list", "--json").stdout)["executions"]
    assert len(listed) == 1
    assert listed[0]["status"] in TERMINAL
    assert f"integr8s: {listed[0]['status']}" in told


def test_down_does_not_wait_for_those_who_follow(shell: Shell) -> None:
    """They are told, leave, and come back when a system runs again."""
    shell.run("up", "--detach")
    following = shell.start("run", shell.script("sleep.sh", "echo up; sleep 300"))
    assert following.stdout is not None
    following.stdout.readline()
    begun = time.monotonic()

    stopped = shell.run("down")

    took = time.monotonic() - begun
    following.kill()
    following.communicate()
    assert stopped.returncode == 0
    assert took < 5  # what the server would wait for clients that do not listen


def test_ephemeral_run_leaves_nothing_behind(shell: Shell) -> None:
    """A private system, its data and its processes go with the command."""
    temporary = shell.folder / "tmp"
    temporary.mkdir()
    private = replace(shell, more={"TMPDIR": str(temporary)})

    ran = private.run("run", "--ephemeral", shell.script("a.py", "print('private')"))

    assert (ran.stdout, ran.returncode) == (b"private\n", 0)
    assert not list(temporary.glob("integr8s-??????*/running.json"))
    assert not shell.data_dir.exists()


def test_ephemeral_run_uses_a_system_that_runs(system: Shell) -> None:
    """Nobody needs two."""
    before = json.loads(system.run("list", "--json").stdout)

    system.run("run", "--ephemeral", system.script("a.py", "print(1)"))

    after = json.loads(system.run("list", "--json").stdout)
    assert after["total"] == before["total"] + 1


def test_private_system_dies_with_its_command(shell: Shell) -> None:
    """Even if that is killed and can stop nothing itself."""
    path = shell.script("sleep.py", "import time\nprint('up', flush=True)\ntime.sleep(300)\n")
    running = shell.start("run", "--ephemeral", "--timeout", "300", path)
    assert running.stdout is not None
    running.stdout.readline()
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text("ascii").split()
    handles = [os.pidfd_open(int(child)) for child in children]

    running.kill()
    running.communicate()

    ends = [signal_of_end(handle) for handle in handles]
    assert ends == [True] * len(children)
    assert children


def signal_of_end(handle: int) -> bool:
    """Wait for the end of a process; say whether it came in time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = bool(poll.poll(20_000))
    os.close(handle)
    return ended


def test_interrupted_system_stops_in_order(shell: Shell) -> None:
    """A first Ctrl-C drains, and leaves no note behind."""
    with shell.terminal("up") as terminal:
        terminal.wait_for("is ready at")
        terminal.interrupt()
        code = terminal.exit_code()

    assert code == 0
    assert not (shell.data_dir / "running.json").exists()


def test_impatient_interrupt_stops_at_once(shell: Shell) -> None:
    """A second Ctrl-C does not wait, and the next start finds everything."""
    with shell.terminal("up") as terminal:
        terminal.wait_for("is ready at")
        terminal.interrupt()
        terminal.wait_for("again to stop at once")
        terminal.interrupt()
        code = terminal.exit_code()

    assert code in (0, 130)  # the first one may have been through already
    assert shell.run("up", "--detach").returncode == 0


def test_logs_for_machines_are_json(shell: Shell) -> None:
    """Every line, and none holds the first password."""
    running = shell.start("up", "--json-logs")
    assert running.stdout is not None
    told = []
    for line in running.stdout:
        told.append(json.loads(line))
        if "ready at" in told[-1]["message"]:
            break
    running.terminate()
    rest, _ = running.communicate()

    told += [json.loads(line) for line in rest.splitlines()]
    password = (shell.data_dir / "admin.password").read_text("ascii").strip()
    assert {"time", "level", "message"} <= set(told[0])
    assert password not in json.dumps(told)
    assert running.returncode == 0


def test_other_systems_are_named_by_environment(system: Shell) -> None:
    """The address and the key, both or none."""
    url = note_of(system)["url"]
    key = (system.data_dir / "cli.key").read_text("ascii").strip()
    elsewhere = replace(system, folder=system.folder / "elsewhere")
    elsewhere.folder.mkdir()

    without = replace(elsewhere, more={"INTEGR8S_URL": url}).run("list")
    wrong = replace(elsewhere, more={"INTEGR8S_URL": url, "INTEGR8S_API_KEY": "i8s_no"}).run("list")
    right = replace(elsewhere, more={"INTEGR8S_URL": url, "INTEGR8S_API_KEY": key}).run("list")

    assert (without.returncode, wrong.returncode, right.returncode) == (2, 1, 0)
    assert "INTEGR8S_API_KEY" in without.stderr.decode()


def test_doctor_finds_a_sound_machine_sound(shell: Shell) -> None:
    """Before the first start, and with data to judge; it changes nothing."""
    fresh = shell.run("doctor", "--json")
    shell.run("up", "--detach")
    shell.run("run", shell.script("a.py", "print(1)"))
    live = shell.run("doctor")
    shell.run("down")
    before = (shell.data_dir / "integr8s.db").read_bytes()
    judged = shell.run("doctor", "--json")

    found = {one["check"]: one["state"] for one in json.loads(judged.stdout)["findings"]}
    assert (fresh.returncode, live.returncode, judged.returncode) == (0, 0, 0)
    assert found["invariant 1"] == found["invariant 2"] == "ok"
    assert (shell.data_dir / "integr8s.db").read_bytes() == before


def test_doctor_says_the_remedy(shell: Shell) -> None:
    """Exit code 1, and what to install."""
    ran = replace(shell, more={"PATH": "/nonexistent"}).run("doctor")

    assert ran.returncode == 1
    assert "apt-get install bubblewrap" in ran.stdout.decode()


def test_function_over_http_takes_an_event(shell: Shell) -> None:
    """`integr8s http submit` is the function alone: accepted now, run when a system starts."""
    serving = shell.start("http", "submit", "--port", "0")
    assert serving.stdout is not None
    address = json.loads(serving.stdout.readline())["message"].rpartition(" ")[2]

    status = post_submit(address)
    serving.terminate()
    serving.communicate()
    judged = json.loads(shell.run("doctor", "--json").stdout)["findings"]

    assert (status, serving.returncode) == (204, 0)
    assert {"check": "executions", "state": "ok", "seen": ONE_LEFT, "remedy": ""} in judged


ONE_LEFT = "1, of which 1 go on at the next start"


def post_submit(address: str) -> int:
    """Post one event that asks for an execution; return the status of the answer."""
    headers = {
        "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop",
        "ce-type": "execution.submit", "content-type": "application/json",
    }  # fmt: skip
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", "/", b'{"script": "print(1)"}', headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_pump_runs_one_function_until_asked_to_stop(shell: Shell) -> None:
    """And gives the data directory back."""
    pumping = shell.start("pump", "relay-events")
    assert pumping.stdout is not None
    told = json.loads(pumping.stdout.readline())

    pumping.terminate()
    pumping.communicate()

    assert (told["function"], pumping.returncode) == ("relay-events", 0)
    assert shell.run("up", "--detach").returncode == 0
