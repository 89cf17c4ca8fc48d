"""The record that an event becomes when it cannot be handled."""

import pytest

from shared.events.codec import header
from shared.ports.event_log import Record
from shared.runtime.dead_letters import dead_letter, is_for_another
from tests.builders import START

RECORD = Record("execution_events", 2, 7, b"key", (("ce_id", b"1"), ("x", b"\xff")), b"\x00")


def test_bytes_and_headers_stay_as_they_were() -> None:
    """What could not be handled may be what is wrong with it."""
    letter = dead_letter(RECORD, ValueError("no"), function="f", attempts=2, at=START)

    assert (letter.topic, letter.key, letter.value) == ("dead_letters", b"key", b"\x00")
    assert letter.headers[:2] == RECORD.headers


def test_the_failure_stands_beside() -> None:
    """Who, where, what, how often."""
    letter = dead_letter(RECORD, ValueError("no"), function="f", attempts=2, at=START)
    told = {name: value.decode() for name, value in letter.headers[2:]}

    assert told["dlqfunction"] == "f"
    assert (told["dlqtopic"], told["dlqpartition"], told["dlqoffset"]) == (
        "execution_events",
        "2",
        "7",
    )
    assert (told["dlqattempts"], told["dlqerror"]) == ("2", "ValueError: no")


def test_long_messages_are_cut() -> None:
    """They may hold somebody's script."""
    letter = dead_letter(RECORD, ValueError("x" * 9000), function="f", attempts=1, at=START)

    assert len(header(letter.headers, "dlqerror") or b"") == 500


def test_a_record_without_key_keeps_its_value() -> None:
    """A stranger's record has none."""
    bare = Record("timers", 0, 0, None, (), None)
    letter = dead_letter(bare, ValueError("no"), function="f", attempts=1, at=START)

    assert (letter.key, letter.value) == (b"", None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param((), False, id="no retry"),
        pytest.param((("dlqtarget", b"me"),), False, id="mine"),
        pytest.param((("dlqtarget", b"other"),), True, id="another's"),
        pytest.param((("dlqtarget", b"\xff"),), True, id="nonsense"),
    ],
)
def test_a_retry_is_for_the_one_that_failed(
    headers: tuple[tuple[str, bytes], ...],
    expected: bool,  # noqa: FBT001
) -> None:
    """All others handled it already."""
    record = Record("t", 0, 0, None, headers, None)

    assert is_for_another(record, "me") is expected
