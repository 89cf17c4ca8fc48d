"""A stream may be cut into pieces anywhere."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.sse import Message, Parser

STREAM = (
    b"retry: 2000\n\n"
    b'data: {"a": "\xc3\xa4"}\n\n'
    b": heartbeat\n\n"
    b"id: 7\ndata: one\ndata: two\n\n"
    b"event: end\r\ndata: {}\r\n\r\n"
)
MESSAGES = [
    Message("", '{"a": "ä"}', None),
    Message("", "one\ntwo", "7"),
    Message("end", "{}", "7"),
]


def test_messages_have_name_data_and_last_id() -> None:
    """Comments and retry hints are none; an id holds until the next one."""
    assert Parser().feed(STREAM) == MESSAGES


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    """Not within a line, not within a character."""
    places = [0, *sorted(cuts), len(STREAM)]
    parser = Parser()

    found = [
        message
        for start, end in itertools.pairwise(places)
        for message in parser.feed(STREAM[start:end])
    ]

    assert found == MESSAGES


def test_message_without_data_is_none() -> None:
    """As the standard has it: an event that is only a name is not dispatched."""
    assert Parser().feed(b"event: end\n\n") == []
