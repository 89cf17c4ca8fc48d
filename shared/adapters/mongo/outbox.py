"""Events that wait inside the document they were emitted with, and how they leave it."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pymongo import UpdateOne

from shared.domain.errors import MalformedEvent
from shared.events.codec import decode, encode
from shared.events.event import Event

_LOG = logging.getLogger(__name__)

OUTBOX = "outbox"
WAKE_AT = "wake_at"
WAKE_AFTER = timedelta(seconds=10)
"""After this long an event is not waiting for its writer any more: KEDA's queries look for it."""
_EMPTIED = {"$unset": {OUTBOX: "", WAKE_AT: ""}}


def entries_of(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return events as documents hold them: headers and value as on their topic.

    Raises:
        MalformedEvent: One cannot be written.
    """
    entries = []
    for event in events:
        headers, value = encode(event)
        texts = {name: content.decode() for name, content in headers}
        entries.append({"id": event.id, "key": event.key, "headers": texts, "value": value})
    return entries


def events_in(key: str, entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Yield the events of an outbox in the order in which they were emitted.

    One that this version does not understand is left where it is: another version wrote it, and
    will publish it.
    """
    for entry in entries:
        headers = tuple((name, text.encode()) for name, text in entry["headers"].items())
        try:
            yield decode(entry["key"].encode(), headers, entry["value"])
        except MalformedEvent:
            _LOG.exception("the outbox of %s holds an event that is not understood", key)


def clearings(sent: Mapping[str, Sequence[str]]) -> list[UpdateOne]:
    """Return the writes that empty outboxes which hold exactly what was sent, each one write."""
    return [UpdateOne(_exactly(key, set(ids)), _EMPTIED) for key, ids in sent.items()]


def _exactly(key: str, ids: set[str]) -> dict[str, Any]:
    query: dict[str, Any] = {"_id": key, OUTBOX: {"$size": len(ids)}}
    if ids:
        query["outbox.id"] = {"$all": sorted(ids)}
    return query


def partial_clearings(sent: Mapping[str, Sequence[str]]) -> list[UpdateOne]:
    """Return the writes that take events off outboxes to which others were added meanwhile.

    The second looks again whether anything is left: what is added between the two stays, and
    keeps its time of waking. Between them an outbox may be seen empty; if nobody lives to do the
    second, whoever looks for leftovers does it.
    """
    writes: list[UpdateOne] = []
    for key, ids in sent.items():
        wanted = {"$in": list(ids)}
        writes += [
            UpdateOne({"_id": key, "outbox.id": wanted}, {"$pull": {OUTBOX: {"id": wanted}}}),
            UpdateOne({"_id": key, OUTBOX: {"$size": 0}}, _EMPTIED),
        ]
    return writes
