"""Records of these tests, and how to get at them without waiting by the clock."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from shared.events.topics import TOPICS, Topic
from shared.ports.event_log import Consumer, EventLog, NewRecord, Record, TopicPartition

FACTS = Topic.EXECUTION_EVENTS
PLACES = {TopicPartition(FACTS, number) for number in range(TOPICS[FACTS].partitions)}
SOON = timedelta(milliseconds=100)


def numbered(key: str, number: int) -> NewRecord:
    """Return one of the records of a key."""
    return NewRecord(FACTS, key.encode(), (("ce_type", b"test"),), str(number).encode())


def numbered_round(number: int, keys: int = 24) -> list[NewRecord]:
    """Return one record for each key; they are in every partition."""
    return [numbered(f"k{key}", number) for key in range(keys)]


def numbers_by_key(found: Iterable[Record]) -> dict[str, list[int]]:
    """Return, per key, what its records say, each number where it came first."""
    numbers: dict[str, dict[int, None]] = defaultdict(dict)
    for record in found:
        numbers[(record.key or b"").decode()][int(record.value or b"-1")] = None
    return {key: list(of_key) for key, of_key in numbers.items()}


async def poll_until(
    condition: Callable[[Sequence[Record]], bool], *members: Consumer
) -> list[Record]:
    """Poll members in turn until what they gave satisfies a condition; the test's limit ends it."""
    found: list[Record] = []
    while not condition(found):
        for member in members:
            found += await member.poll(timeout=SOON, max_records=100)
    return found


async def shared_out(*members: Consumer) -> list[Record]:
    """Poll until each partition has one owner among the members; return what they gave."""

    def is_settled(_: Sequence[Record]) -> bool:
        owned = [place for member in members for place in member.assignment]
        return sorted(owned) == sorted(PLACES)

    return await poll_until(is_settled, *members)


async def lag(log: EventLog, group: str) -> int:
    """Return how many records a group has still to handle, as an autoscaler counts."""
    positions = await log.positions(group, [FACTS])
    return sum(position.end - (position.committed or 0) for position in positions.values())
