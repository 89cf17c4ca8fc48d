"""The driver's records as ours."""

from typing import Any

from shared.ports.event_log import Record


def record_of(found: Any, topic: str) -> Record:
    """Return a record as it was written; `topic` is our name of where it lies."""
    # Others may write headers without a value; ours have bytes, if only none.
    headers = tuple((name, value or b"") for name, value in found.headers)
    return Record(topic, found.partition, found.offset, found.key, headers, found.value)
