"""What a document may hold, and what is refused before a server is asked."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.adapters.mongo.values import pack, refuse_dots, unpack
from shared.domain.errors import PermanentError


def test_numbers_are_plain_ones() -> None:
    """The driver has a class of its own for whole numbers past 32 bits."""
    found = unpack(pack({"_id": "a", "small": 1, "large": [2**40], "deep": {"n": -(2**63)}}))

    kinds = {type(found["small"]), type(found["large"][0]), type(found["deep"]["n"])}
    assert kinds == {int}


def test_times_are_cut_and_in_utc() -> None:
    """To the millisecond, also before 1970."""
    at = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    found = unpack(pack({"_id": "a", "at": at}))["at"]

    assert (found, found.tzinfo) == (at - timedelta(microseconds=999), UTC)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**63, id="past 64 bits"),
        pytest.param("\ud800", id="half a character"),
        pytest.param({"a\0": 1}, id="key with a zero"),
        pytest.param({1: 2}, id="key that is no text"),
        pytest.param({1, 2}, id="set"),
        pytest.param(timedelta(1), id="duration"),
        pytest.param(UUID(int=1), id="uuid"),
        pytest.param([{"x": ({"a.b": 1},)}], id="key with a dot, deep down"),
        pytest.param({"a.b": 1}, id="key with a dot"),
    ],
)
def test_what_no_document_can_hold_is_refused(value: Any) -> None:
    """It will never succeed, so nobody tries it again."""
    with pytest.raises(PermanentError):
        pack({"_id": "a", "value": value})


def test_a_refusal_shows_little_of_the_value() -> None:
    """It may be the script of somebody."""
    with pytest.raises(PermanentError) as caught:
        pack({"_id": "a", "value": {("x" * 10_000,)}})

    assert len(str(caught.value)) < 200


def test_dollars_are_only_letters_in_values() -> None:
    """A key may begin with one, as in documents of other systems."""
    refuse_dots({"$date": {"$x": [1, {"$y": 2}]}})

    assert unpack(pack({"_id": "a", "o": {"$date": 1}}))["o"] == {"$date": 1}
