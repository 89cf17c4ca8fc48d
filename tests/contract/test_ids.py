"""What every source of ids promises."""

import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.adapters.virtual.clock import VirtualClock
from shared.adapters.virtual.ids import SeededIds
from shared.domain.identifiers import is_uuid, uuid7
from shared.ports.ids import Ids


@pytest.fixture(params=[SystemIds, lambda: SeededIds(7, SystemClock())], ids=["system", "seeded"])
def ids(request: pytest.FixtureRequest) -> Ids:
    """Return one of the sources."""
    make: Callable[[], Ids] = request.param
    return make()


def milliseconds(text: str) -> int:
    """Return the time that a uuid7 holds."""
    return uuid.UUID(text).int >> 80


class TestEverySource:
    """The promises of the port."""

    def test_is_a_uuid7(self, ids: Ids) -> None:
        """Other programs can read when it was made."""
        made = uuid.UUID(ids.new())

        assert (made.version, made.variant) == (7, uuid.RFC_4122)

    def test_has_the_usual_form(self, ids: Ids) -> None:
        """Lower case with dashes."""
        assert is_uuid(ids.new())

    def test_later_ones_sort_after_earlier_ones(self, ids: Ids) -> None:
        """Strictly, thousands of them within a millisecond: sorted and unique are one."""
        made = [ids.new() for _ in range(5_000)]

        assert made == sorted(set(made))

    def test_time_is_that_of_making(self, ids: Ids) -> None:
        """To the millisecond."""
        clock = SystemClock()
        before = int(clock.now().timestamp() * 1000)

        made = milliseconds(ids.new())

        assert before <= made <= int(clock.now().timestamp() * 1000)


class TestSystemIds:
    """Ids of a real process."""

    def test_ascend_when_the_clock_is_set_back(self) -> None:
        """The machine's clock may jump; order within the process stays."""
        times = iter([2_000_000_000_000_000_000, 1_000_000_000_000_000_000])
        ids = SystemIds(nanoseconds=lambda: next(times))

        assert ids.new() < ids.new()

    def test_threads_never_get_the_same(self) -> None:
        """Adapters have threads of their own."""
        ids = SystemIds()

        with ThreadPoolExecutor(4) as threads:
            made = list(threads.map(lambda _: ids.new(), range(4_000)))

        assert len(set(made)) == len(made)


class TestSeededIds:
    """Ids of a simulation."""

    def test_one_seed_gives_one_sequence(self) -> None:
        """A run can be repeated, whoever else draws random numbers meanwhile."""
        first, again = SeededIds(1, VirtualClock()), SeededIds(1, VirtualClock())

        made = [first.new() for _ in range(10)]
        random.seed(5)

        assert [again.new() for _ in range(10)] == made

    def test_seeds_give_different_sequences(self) -> None:
        """Two runs do not share ids."""
        assert SeededIds(1, VirtualClock()).new() != SeededIds(2, VirtualClock()).new()

    async def test_time_is_virtual(self) -> None:
        """Ids belong to the instant of the simulation."""
        clock = VirtualClock()
        ids = SeededIds(1, clock)
        first = milliseconds(ids.new())

        await clock.advance(timedelta(hours=1))

        assert milliseconds(ids.new()) - first == 3_600_000


def test_uuid7_of_the_specification() -> None:
    """The example of RFC 9562, appendix A.6."""
    value = (0x017F22E279B0 << 74) | (0xCC3 << 62) | 0x18C4DC0C0C07398F

    assert uuid7(value) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
