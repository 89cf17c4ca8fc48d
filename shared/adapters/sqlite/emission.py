"""Events straight into the log, in the very commit of the document that emits them.

Where documents and log are one file there is nothing that an outbox could bridge: state and events
are one write already, and no crash can come between them.
"""

from collections.abc import Sequence

from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.events.codec import encode
from shared.events.event import Event
from shared.ports.event_log import NewRecord


class DirectEmission:
    """What documents emit becomes records of the log on the same store."""

    def __init__(self, log: SqliteEventLog) -> None:
        """Write to a log; it must be on the store of the documents."""
        self._log = log

    def encoded(self, events: Sequence[Event]) -> Sequence[NewRecord]:
        """Return events as records; called before the document is written.

        Raises:
            PermanentError: The log will never take one of them; nothing was written.
        """
        records = [NewRecord(event.topic, event.key.encode(), *encode(event)) for event in events]
        self._log.check(records)
        return records

    def add(self, _key: str, records: Sequence[NewRecord]) -> None:
        """Write records in the current batch, to be committed with their document."""
        if records:
            self._log.write(records)
