"""A process of its own that handles half of what it reads, says so, and waits to be killed."""

import asyncio
import sys
from collections.abc import Sequence

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.ports.event_log import Record, TopicPartition
from tests.contract.kafka import fresh_options
from tests.integration.kafka.records import FACTS, poll_until


async def main(server: str, prefix: str, expected: int) -> None:
    """Join, read everything, commit the first half of each partition, and wait for the end."""
    log = KafkaEventLog(fresh_options([server], prefix=prefix))
    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == expected, member)
    await member.commit(first_halves(found))
    sys.stdout.write("committed\n")
    sys.stdout.flush()
    await poll_until(lambda _: False, member)


def first_halves(found: Sequence[Record]) -> dict[TopicPartition, int]:
    """Return, per partition, the offset of the record in the middle."""
    by_place: dict[TopicPartition, list[int]] = {}
    for record in found:
        by_place.setdefault(record.place, []).append(record.offset)
    return {place: offsets[len(offsets) // 2] for place, offsets in by_place.items()}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
