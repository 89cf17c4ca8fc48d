"""What a start tells, and to whom; what a log line holds, and what not."""

import io
import json
import logging
import os
from pathlib import Path

import pytest

from gateway.cli.report import Log, Pipe, Ready, Terminal
from shared.domain.errors import StartupError
from shared.runtime.logs import JsonLines, redacted

READY = Ready(
    url="http://127.0.0.1:8000",
    data_dir="/data",
    version="1",
    seconds=0.5,
    username="admin",
    password="only-once",
    notes=("memory is limited per process",),
)
ERROR = StartupError("Port 8000 is in use.", remedy="Choose another INTEGR8S_PORT.")


def test_terminal_shows_the_password() -> None:
    """It is the only place where the first one appears."""
    out = io.StringIO()

    Terminal(out, io.StringIO()).ready(READY)

    assert "only-once" in out.getvalue()
    assert "ready at http://127.0.0.1:8000" in out.getvalue()


def test_fault_is_a_sentence_and_its_remedy() -> None:
    """On standard error."""
    errors = io.StringIO()

    Terminal(io.StringIO(), errors).failed(ERROR)

    assert errors.getvalue() == (
        "integr8s: Port 8000 is in use.\n  Choose another INTEGR8S_PORT.\n"
    )


def test_log_keeps_the_password_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log is sent on; the file is its owner's alone."""
    caplog.set_level(logging.INFO)

    Log(tmp_path).ready(READY)

    path = tmp_path / "admin.password"
    assert "only-once" not in caplog.text
    assert path.read_text() == "only-once\n"
    assert path.stat().st_mode & 0o077 == 0


def test_pipe_hands_everything_on() -> None:
    """One object a line, and the end of the pipe when it is ready."""
    reader, writer = os.pipe()
    pipe = Pipe(writer)

    pipe.part("engines", 0.25)
    pipe.ready(READY)
    with os.fdopen(reader) as told:
        lines = [json.loads(line) for line in told]

    assert lines[0] == {"part": "engines", "seconds": 0.25}
    assert lines[1]["ready"]["password"] == "only-once"


def test_pipe_that_nobody_reads_stops_no_start(caplog: pytest.LogCaptureFixture) -> None:
    """The one who started it may have been killed."""
    reader, writer = os.pipe()
    os.close(reader)

    pipe = Pipe(writer)

    pipe.part("engines", 0.25)
    pipe.ready(READY)

    assert "does not listen" in caplog.text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("key i8s_abcdefghijkl used", "key i8s_*** used"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("redis://user:pass@host/0", "redis://user:***@host/0"),
        ("redis://:pass@host/0", "redis://:***@host/0"),
        ('{"password": "p", "name": "n"}', '{"password": ***, "name": "n"}'),
        ("access_token=abc; theme=dark", "access_token=***; theme=dark"),
        ("eyJhbGciOi.eyJzdWIi.c2ln ended", "*** ended"),
        ("the token expired", "the token expired"),
    ],
)
def test_secrets_are_taken_out(text: str, safe: str) -> None:
    """By their shape, and by the names beside them."""
    assert redacted(text).replace("*** ***", "***") == safe


def test_log_line_is_one_json_object() -> None:
    """Line breaks of messages and tracebacks included."""
    error = ValueError("two\nlines")
    record = logging.LogRecord(
        "gateway", logging.ERROR, __file__, 1, "a\nb %s", ("c",), (ValueError, error, None)
    )
    record.execution_id = "e1"

    line = JsonLines().format(record)

    assert "\n" not in line
    told = json.loads(line)
    assert (told["message"], told["level"], told["execution_id"]) == ("a\nb c", "ERROR", "e1")
    assert "two\nlines" in told["exception"]
