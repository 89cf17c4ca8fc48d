"""Following: output exactly once and in order, phases beside it."""

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.errors import Unreachable
from gateway.cli.follow import Copy, Follower
from gateway.cli.phases import Lines, LiveLine
from gateway.cli.sse import Message
from shared.domain.results import TRUNCATION_MARK

AT = "2026-01-01T00:00:00.{:03}Z"
WHOLE = bytes(range(200))


def message(event_type: str, milliseconds: int = 0, **more: Any) -> Message:
    """Return a message of a stream."""
    event = {"event_type": event_type, "timestamp": AT.format(milliseconds), "result": None}
    return Message("", json.dumps({**event, **more}), None)


def output(stream: str, offset: int, data: bytes) -> Message:
    """Return a live chunk."""
    chunk = {
        "stream": stream,
        "offset": offset,
        "data": base64.b64encode(data).decode(),
        "encoding": "base64",
        "truncated": False,
    }
    return message("execution.output", output=chunk)


def stored(**changes: Any) -> Message:
    """Return the message with the result."""
    result = {"status": "completed", "exit_code": 0, "stdout": "", "stderr": "", **changes}
    return message("result_stored", 50, result=result)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=12))
def test_chunks_in_any_order_and_number_give_the_whole_once(spans: list[tuple[int, int]]) -> None:
    """Repeated, overlapping, missing: what is printed is always a beginning, at the end all."""
    target = io.BytesIO()
    copy = Copy(target)

    for start, length in spans:
        copy.chunk(start, WHOLE[start : start + length])
        assert WHOLE.startswith(target.getvalue())
    copy.rest(WHOLE)

    assert target.getvalue() == WHOLE


def test_live_output_and_the_rest_of_the_result_join() -> None:
    """What came live is not printed again from the result."""
    out, err = io.BytesIO(), io.BytesIO()
    follower = Follower(Lines(io.StringIO()), stdout=out, stderr=err)

    result = follower.follow(
        [
            output("stdout", 0, b"ab"),
            output("stdout", 0, b"ab"),
            output("stdout", 4, b"ef"),
            stored(stdout="abcdef", stderr="x"),
            Message("end", "{}", None),
        ]
    )

    assert (out.getvalue(), err.getvalue()) == (b"abcdef", b"x")
    assert result is not None


def test_mark_of_a_cut_is_no_output() -> None:
    """The bytes are the script's; that they were cut is told beside them."""
    out = io.BytesIO()
    follower = Follower(Lines(io.StringIO()), stdout=out, stderr=None)

    follower.follow([stored(stdout="kept" + TRUNCATION_MARK, stdout_truncated=True)])

    assert out.getvalue() == b"kept"


@pytest.mark.parametrize("name", ["replaced", "expired"])
def test_stream_that_the_server_takes_away_is_a_failure(name: str) -> None:
    """Coming back at once would only be sent away again."""
    follower = Follower(Lines(io.StringIO()), stdout=None, stderr=None)

    with pytest.raises(Unreachable, match=name):
        follower.follow([Message(name, "{}", None)])


LIFE = [
    message("status", position=3, status="queued"),
    message("execution.requested"),
    message("execution.queued", 1, position=3),
    message("execution.queued", 2, position=0),
    message("pod.created", 10),
    message("execution.started", 20),
    output("stdout", 0, b"hi\n"),
    stored(stdout="hi\n"),
]


def test_lines_tell_each_phase_once() -> None:
    """With the time since the request, by the server's clock."""
    told = io.StringIO()

    Follower(Lines(told), stdout=io.BytesIO(), stderr=None).follow(LIFE)

    assert told.getvalue().splitlines() == [
        "integr8s: queued     +0 ms  behind 2",
        "integr8s: scheduled  +2 ms",
        "integr8s: launching  +10 ms",
        "integr8s: running    +20 ms",
        "integr8s: stored     +50 ms",
    ]


def test_live_line_gives_way_to_output() -> None:
    """The line stands complete before the script's first byte; the rest is told at the end."""
    told = io.StringIO()
    phases = LiveLine(told, colour=False)

    Follower(phases, stdout=io.BytesIO(), stderr=None).follow(LIFE)
    phases.finish("completed", good=True)

    assert told.getvalue().rpartition("\x1b[2K")[2] == (
        "queued behind 2 0 ms > scheduled 2 ms > launching 10 ms > running 20 ms\n"
        "completed  stored 50 ms\n"
    )
