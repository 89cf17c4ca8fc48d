"""What is kept, counted and said of a stream, whatever the chunking."""

from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.sandbox.capture import CHUNK_BYTES, Capture, Chunk
from shared.ports.cluster import Captured


def taken(capture: Capture, now: float) -> list[Chunk]:
    """Take everything that is due."""
    chunks = []
    while (chunk := capture.take(now)) is not None:
        chunks.append(chunk)
    return chunks


def test_first_byte_is_due_at_once() -> None:
    """A millisecond later, so that a line and its end are one chunk."""
    capture = Capture(1000)
    capture.feed("stdout", b"a", 5.0)
    capture.feed("stdout", b"\n", 5.0005)

    assert capture.due() == 5.001
    assert taken(capture, 5.001) == [Chunk("stdout", 0, b"a\n", truncated=False)]
    assert capture.due() is None


def test_later_bytes_are_gathered() -> None:
    """They wait for a tenth of a second, counted from the oldest of them."""
    capture = Capture(1000)
    capture.feed("stdout", b"a", 0.0)
    taken(capture, 0.01)
    capture.feed("stdout", b"b", 1.0)
    capture.feed("stdout", b"c", 1.09)

    assert taken(capture, 1.095) == []
    assert taken(capture, 1.1) == [Chunk("stdout", 1, b"bc", truncated=False)]


def test_a_full_chunk_does_not_wait() -> None:
    """Sixteen KiB are enough to be said."""
    capture = Capture(10 * CHUNK_BYTES)
    capture.feed("stdout", b"a", 0.0)
    taken(capture, 0.01)
    capture.feed("stdout", b"b" * CHUNK_BYTES, 1.0)

    assert [len(chunk.data) for chunk in taken(capture, 1.0)] == [CHUNK_BYTES]


def test_no_second_has_more_than_ten_chunks() -> None:
    """Over both streams, however much there is."""
    capture = Capture(1000 * CHUNK_BYTES)
    capture.feed("stdout", b"o" * 20 * CHUNK_BYTES, 0.0)
    capture.feed("stderr", b"e" * 20 * CHUNK_BYTES, 0.0)

    assert len(taken(capture, 0.0)) == 10
    assert capture.due() == 1.0
    assert taken(capture, 0.99) == []
    assert len(taken(capture, 1.0)) == 10


def test_longest_waiting_stream_is_first() -> None:
    """One busy stream does not keep the other from being heard."""
    capture = Capture(1000)
    capture.feed("stderr", b"e", 0.0)
    capture.feed("stdout", b"o", 0.0005)

    assert [chunk.stream for chunk in taken(capture, 1.0)] == ["stderr", "stdout"]


def test_cut_is_said_with_the_last_kept_byte() -> None:
    """The chunk that reaches the limit says that more was printed."""
    capture = Capture(3)
    capture.feed("stdout", b"abcdef", 0.0)

    assert taken(capture, 1.0) == [Chunk("stdout", 0, b"abc", truncated=True)]
    assert capture.captured("stdout") == Captured(b"abc", 6)


def test_cut_that_is_noticed_later_is_said_alone() -> None:
    """Exactly the limit was said before anybody knew that more would come."""
    capture = Capture(3)
    capture.feed("stdout", b"abc", 0.0)
    first = taken(capture, 1.0)
    capture.feed("stdout", b"d", 2.0)
    capture.feed("stdout", b"e", 3.0)

    assert first == [Chunk("stdout", 0, b"abc", truncated=False)]
    assert taken(capture, 4.0) == [Chunk("stdout", 3, b"", truncated=True)]
    assert capture.rest(5.0) == []


def test_rest_is_said_without_waiting() -> None:
    """A script that is dead prints nothing more: there is nothing to gather for."""
    capture = Capture(100 * CHUNK_BYTES)
    capture.feed("stdout", b"o" * (20 * CHUNK_BYTES + 1), 0.0)
    capture.feed("stderr", b"e", 0.0)
    waiting = capture.waiting()

    assert len(capture.rest(0.0)) == waiting == 22


def test_words_of_set_up_are_dropped() -> None:
    """What bubblewrap says before the script runs is no output of the script."""
    capture = Capture(100)
    capture.feed("stderr", b"bwrap: no", 0.0)

    assert capture.forget_stderr() == "bwrap: no"
    assert capture.captured("stderr") == Captured()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.binary(max_size=200),
            st.floats(min_value=0, max_value=0.5),
        )
    ),
    st.integers(min_value=0, max_value=300),
)
def test_bytes_come_out_as_they_went_in(fed: list[tuple[str, bytes, float]], limit: int) -> None:
    """Any bytes, any rhythm: what is said is a prefix of what was printed, without a gap."""
    capture = Capture(limit)
    printed = {"stdout": b"", "stderr": b""}
    said = {"stdout": b"", "stderr": b""}
    now, chunks = 0.0, []
    for stream, data, wait in fed:
        now += wait
        capture.feed("stdout" if stream == "stdout" else "stderr", data, now)
        printed[stream] += data
        chunks += taken(capture, now)
    chunks += capture.rest(now)
    for chunk in chunks:
        assert chunk.offset == len(said[chunk.stream])
        said[chunk.stream] += chunk.data

    assert said == {stream: data[:limit] for stream, data in printed.items()}
    assert capture.captured("stdout").total_bytes == len(printed["stdout"])
    assert capture.chunks == len(chunks)
    assert {chunk.stream for chunk in chunks if chunk.truncated} == {
        stream for stream, data in printed.items() if len(data) > limit
    }
