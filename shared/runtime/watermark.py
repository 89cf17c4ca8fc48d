"""What of a partition may be committed: everything before the first record that is not done."""

from collections import deque


class Watermark:
    """The records of one partition that are being handled, and how far all before them are done."""

    def __init__(self) -> None:
        """Begin with nothing outstanding."""
        self._offsets: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None

    def add(self, offset: int) -> None:
        """Note a record that was read; offsets rise."""
        self._offsets.append(offset)

    def done(self, offset: int) -> bool:
        """Note a record that is handled; say whether more may be committed now."""
        self._done.add(offset)
        moved = False
        while self._offsets and self._offsets[0] in self._done:
            first = self._offsets.popleft()
            self._done.discard(first)
            self._next = first + 1
            moved = True
        return moved

    @property
    def outstanding(self) -> int:
        """Return how many records were read and are not done, or wait behind one."""
        return len(self._offsets)

    @property
    def committable(self) -> int | None:
        """Return the offset of the first record that is not done; None before any was."""
        return self._next
