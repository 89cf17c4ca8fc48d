"""CloudEvents 1.0 as bytes: on Kafka (binary, structured) and over HTTP (also in batches).

`encode` and `decode` are for our own events on their way through the log, `CloudEvent` with its
readers and writers is for everything else: events of other systems, and HTTP.
"""

from shared.events.codec.http import (
    BATCH,
    from_http,
    to_http_batch,
    to_http_binary,
    to_http_structured,
)
from shared.events.codec.kafka import Headers, from_kafka, header, to_kafka, type_of
from shared.events.codec.typed import decode, encode, from_event, to_event
from shared.events.codec.wire import CloudEvent, EventTooLarge, UnknownType, UnsupportedFormat

__all__ = [
    "BATCH",
    "CloudEvent",
    "EventTooLarge",
    "Headers",
    "UnknownType",
    "UnsupportedFormat",
    "decode",
    "encode",
    "from_event",
    "from_http",
    "from_kafka",
    "header",
    "to_event",
    "to_http_batch",
    "to_http_binary",
    "to_http_structured",
    "to_kafka",
    "type_of",
]
