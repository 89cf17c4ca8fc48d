"""What of a partition may be committed."""

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.watermark import Watermark

offsets = st.sets(st.integers(0, 60), max_size=20).map(sorted)


class Naive:
    """The same, written down as the rule says it."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.handled: set[int] = set()

    @property
    def committable(self) -> int | None:
        """Return the offset after the longest beginning that is done."""
        result = None
        for offset in self.read:
            if offset not in self.handled:
                return result
            result = offset + 1
        return result

    @property
    def outstanding(self) -> int:
        """Count what is not done, or stands behind something that is not."""
        for position, offset in enumerate(self.read):
            if offset not in self.handled:
                return len(self.read) - position
        return 0


@given(read=offsets, data=st.data())
def test_it_agrees_with_the_naive_model(read: list[int], data: st.DataObject) -> None:
    """Whatever is read and done, in whatever order."""
    mark, naive = Watermark(), Naive()
    waiting = list(read)
    open_ones: list[int] = []
    while waiting or open_ones:
        if waiting and (not open_ones or data.draw(st.booleans())):
            offset = waiting.pop(0)
            mark.add(offset)
            naive.read.append(offset)
            open_ones.append(offset)
        else:
            offset = open_ones.pop(data.draw(st.integers(0, len(open_ones) - 1)))
            before = naive.committable
            naive.handled.add(offset)
            assert mark.done(offset) is (naive.committable != before)
        assert mark.committable == naive.committable
        assert mark.outstanding == naive.outstanding


def test_nothing_is_committable_at_first() -> None:
    """Not zero: another replica may have been further."""
    assert Watermark().committable is None


def test_gaps_between_offsets_do_not_matter() -> None:
    """Compaction and retention leave some."""
    mark = Watermark()
    mark.add(3)
    mark.add(9)

    assert mark.done(9) is False
    assert mark.done(3) is True
    assert mark.committable == 10
