"""The log of a pod, read back from whatever chunks it arrives in."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters.kubernetes.frames import Frame, Lines, Printed, Reported, Started, Used


def read(data: bytes, *, size: int = 1 << 20) -> list[Frame]:
    """Read a log in pieces."""
    lines = Lines()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [frame for piece in pieces for frame in lines.feed(piece)]


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        (b"o 0 aGkK", Printed("stdout", 0, b"hi\n", truncated=False)),
        (b"O 7 aGkK", Printed("stdout", 7, b"hi\n", truncated=True)),
        (b"e 3 /w==", Printed("stderr", 3, b"\xff", truncated=False)),
        (b"E 10 ", Printed("stderr", 10, b"", truncated=True)),
        (b"s 1795242547837788736", Started(datetime(2026, 11, 21, 6, 29, 7, 837788, UTC))),
        (b"u 1500 2048", Used(1500, 2048)),
        (b"u - -", Used(None, None)),
        (b"r mark cause=none end", Reported("mark cause=none end")),
    ],
)
def test_line_is_read_back(line: bytes, frame: Frame) -> None:
    """Each kind of frame has one spelling."""
    assert read(line + b"\n") == [frame]


@pytest.mark.parametrize(
    "line",
    [b"", b"x 1", b"o x aGkK", b"o 0 a", b"o 0 \xff\xff", b"u 1", b"s soon", b"failed to open"],
)
def test_line_that_is_no_frame_is_passed_over(line: bytes) -> None:
    """A runtime's own words must not end a watch."""
    assert read(line + b"\nu 1 1\n") == [Used(1, 1)]


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.tuples(st.sampled_from("oOeE"), st.binary(max_size=60)), max_size=20),
    st.integers(1, 40),
)
def test_chunks_do_not_matter(parts: list[tuple[str, bytes]], size: int) -> None:
    """Any bytes in any pieces come out as they went in."""
    log = b"".join(
        f"{kind} {number} ".encode() + base64.b64encode(data) + b"\n"
        for number, (kind, data) in enumerate(parts)
    )

    assert [frame.data for frame in read(log, size=size) if isinstance(frame, Printed)] == [
        data for _, data in parts
    ]


def test_last_line_waits_for_its_end() -> None:
    """What was cut off by a broken connection is not taken for a frame."""
    assert read(b"u 1 1\no 0 aGkK") == [Used(1, 1)]


def test_endless_line_does_not_grow() -> None:
    """A log without line ends costs no memory, and the next frame is found."""
    lines = Lines()
    for _ in range(100):
        assert list(lines.feed(b"x" * 10_000)) == []

    assert list(lines.feed(b"\nu 1 1\n")) == [Used(1, 1)]
