"""From what a cluster shows to facts."""

import base64
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.monitor_pods import rules
from shared.events.executions import ExecutionOutput
from shared.ports.cluster import Captured, Cause, PodEnd, PodPhase, Usage
from tests import builders
from tests.builders import START, USER_ID, printed, seconds


def story(**changes: Any) -> rules.Story:
    """Return the story of a pod of which nothing was said."""
    return rules.Story(builders.execution(**changes))


def steps(facts: rules.Facts) -> list[str]:
    """Return the steps of facts."""
    return [step for step, _ in facts]


def bytes_of(output: ExecutionOutput) -> bytes:
    """Return the bytes that an event stands for."""
    is_text = output.encoding == "utf-8"
    return output.data.encode() if is_text else base64.b64decode(output.data)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return data in chunks."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


_pieces = st.sampled_from([b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf8", b"\x80", b"\xff"])
_bytes = st.lists(st.binary(max_size=6) | st.text(max_size=6).map(str.encode) | _pieces).map(
    b"".join
)


@given(data=_bytes, places=st.lists(st.integers(0, 100), max_size=12))
def test_any_bytes_in_any_chunks_are_said_whole(data: bytes, places: list[int]) -> None:
    """Characters that were cut are joined, bytes that are none are kept, and offsets are exact."""
    told = story()
    said = []
    offset = 0
    for chunk in cut(data, places):
        said += rules.output_of(printed(chunk, offset=offset), told)
        offset += len(chunk)
    said += rules.flushed(told)

    outputs = [fact for _, fact in said if isinstance(fact, ExecutionOutput)]
    assert b"".join(map(bytes_of, outputs)) == data
    starts = [0]
    for output in outputs:
        starts.append(starts[-1] + len(bytes_of(output)))
    assert [output.offset for output in outputs] == starts[:-1]
    assert told.outputs == len(outputs)


@given(text=st.text(max_size=40), places=st.lists(st.integers(0, 200), max_size=12))
def test_valid_text_is_always_said_as_text(text: str, places: list[int]) -> None:
    """However it is cut, no character falls apart."""
    told = story()
    said = []
    offset = 0
    for chunk in cut(text.encode(), places):
        said += rules.output_of(printed(chunk, offset=offset), told)
        offset += len(chunk)

    assert "".join(fact.data for _, fact in said if isinstance(fact, ExecutionOutput)) == text
    assert rules.flushed(told) == []


def test_streams_do_not_mix() -> None:
    """A character cut on one stream waits for its rest on that stream."""
    told = story()
    first = rules.output_of(printed(b"\xc3"), told)
    other = rules.output_of(printed(b"x", stream="stderr"), told)
    rest = rules.output_of(printed(b"\xa9", offset=1), told)

    assert (first, steps(other), steps(rest)) == ([], ["stderr:0"], ["stdout:0"])


def test_output_told_again_is_not_said_again() -> None:
    """A watch that begins anew says everything from the first byte on."""
    told = story()
    rules.output_of(printed(b"ab"), told)

    assert rules.output_of(printed(b"ab"), told) == []
    assert steps(rules.output_of(printed(b"c", offset=2), told)) == ["stdout:2"]


def test_a_cut_character_is_said_where_the_output_ends() -> None:
    """After the truncation no rest of it will come."""
    ((_, output),) = rules.output_of(printed(b"a\xc3", truncated=True), story())

    assert isinstance(output, ExecutionOutput)
    assert (bytes_of(output), output.truncated) == (b"a\xc3", True)


def test_a_life_in_order() -> None:
    """Each state says what is new in it."""
    told = story()
    running = builders.pod(PodPhase.RUNNING, node_name="n", started_at=START)

    assert steps(rules.facts_of(builders.pod(), told)) == ["created"]
    assert steps(rules.facts_of(running, told)) == ["scheduled", "running", "started"]
    assert rules.facts_of(running, told) == []
    end = builders.ended(PodEnd(Cause.EXIT, exit_code=0), node_name="n")
    assert steps(rules.facts_of(end, told)) == ["ended", "terminated"]


def test_a_life_that_was_missed_is_told_whole() -> None:
    """A watch that sees only the end still says how it came to that."""
    end = builders.ended(PodEnd(Cause.EXIT, exit_code=0), node_name="n")

    assert steps(rules.facts_of(end, story())) == [
        "created",
        "scheduled",
        "running",
        "started",
        "ended",
        "terminated",
    ]


def test_output_that_waits_is_said_before_the_end() -> None:
    """And counted in it."""
    told = story()
    rules.output_of(printed(b"\xc3"), told)

    facts = rules.facts_of(builders.ended(PodEnd(Cause.EXIT, exit_code=0)), told)

    assert steps(facts)[-3:] == ["stdout:0", "ended", "terminated"]
    terminal: Any = facts[-2][1]
    assert terminal.output_events == 1


def terminal_of(end: PodEnd, **changes: Any) -> Any:
    """Return the terminal fact of an end."""
    facts = dict(rules.facts_of(builders.ended(end), story(**changes)))
    return facts["ended"]


@pytest.mark.parametrize(
    ("cause", "kind", "error_type"),
    [
        (Cause.EXIT, "execution.completed", None),
        (Cause.DEADLINE, "execution.timeout", None),
        (Cause.OUT_OF_MEMORY, "execution.failed", "resource_limit"),
        (Cause.PROCESSES, "execution.failed", "resource_limit"),
        (Cause.OUTPUT_FLOOD, "execution.failed", "resource_limit"),
        (Cause.DISK, "execution.failed", "resource_limit"),
        (Cause.EVICTED, "execution.failed", "resource_limit"),
        (Cause.SIGNAL, "execution.failed", "script_error"),
        (Cause.NODE_LOST, "execution.failed", "system_error"),
        (Cause.POD_LOST, "execution.failed", "system_error"),
        (Cause.UNKNOWN, "execution.failed", "system_error"),
    ],
)
def test_each_cause_is_one_fact(cause: Cause, kind: str, error_type: str | None) -> None:
    """With a code and a sentence wherever it is no success."""
    fact = terminal_of(PodEnd(cause, exit_code=3))

    assert kind == fact.TYPE
    assert getattr(fact, "error_type", None) == error_type
    assert getattr(fact, "error_message", "-") != ""


@pytest.mark.parametrize("cause", [Cause.IMAGE_PULL, Cause.CONTAINER_START, Cause.START_DEADLINE])
def test_what_never_started_failed_at_launch(cause: Cause) -> None:
    """That makes the execution an error, not a failure of the script."""
    fact = terminal_of(PodEnd(cause, started=False))

    assert (fact.TYPE, fact.phase, fact.error_code) == ("execution.failed", "launch", cause.value)


@pytest.mark.parametrize("cause", list(Cause))
def test_a_recorded_cancel_wins_over_every_cause(cause: Cause) -> None:
    """What was printed is kept."""
    end = PodEnd(cause, stdout=Captured(b"so far", 6))
    fact = terminal_of(end, cancel_requested_at=START, cancelled_by="u", cancel_reason="enough")

    assert fact.TYPE == "execution.cancelled"
    assert (fact.cancelled_by, fact.reason, fact.stdout) == ("u", "enough", "so far")


def test_ended_on_order_without_a_cancel_is_a_timeout() -> None:
    """The saga's deadline ended it."""
    assert terminal_of(PodEnd(Cause.CANCELLED)).TYPE == "execution.timeout"


def test_output_that_is_no_text_comes_exact_beside() -> None:
    """Readable where it can be, exact always."""
    end = PodEnd(Cause.EXIT, exit_code=0, stdout=Captured(b"a\xff", 9), stderr=Captured(b"b", 1))
    fact = terminal_of(end)

    assert (fact.stdout, fact.stdout_base64) == ("a\ufffd", "Yf8=")
    assert (fact.stdout_truncated, fact.stderr_truncated) == (True, False)
    assert fact.stderr_base64 is None


def test_usage_that_is_unknown_stays_unknown() -> None:
    """None is not zero."""
    fact = terminal_of(PodEnd(Cause.EXIT, usage=Usage(0.5, None, None, "wait4", complete=False)))

    assert fact.usage.execution_time_wall_seconds == 0.5
    assert (fact.usage.cpu_time_seconds, fact.usage.cpu_time_jiffies) == (None, None)


def test_a_fact_without_its_output_says_that_it_was_cut() -> None:
    """Its end is kept."""
    end = PodEnd(Cause.EXIT, exit_code=4, stdout=Captured(b"\xff", 1))

    fact: Any = rules.without_output(terminal_of(end))

    assert (fact.stdout, fact.stdout_base64, fact.stdout_truncated) == ("", None, True)
    assert (fact.exit_code, fact.user_id) == (4, USER_ID)
    assert fact.finished_at == START + seconds(2)
