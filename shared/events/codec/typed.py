"""Events of our catalogue, from values to bytes and back.

`encode` and `decode` run on every hop of every execution, some twenty-five times each, so they go
straight from headers to the model; whatever is unusual takes the long way through `CloudEvent`,
which also words the refusals.
"""

from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from shared.domain.errors import MalformedEvent
from shared.domain.identifiers import derived_id
from shared.domain.tracing import is_traceparent, new_traceparent
from shared.events.catalogue import TYPES
from shared.events.codec.kafka import CONTENT_TYPE, Headers, from_kafka
from shared.events.codec.wire import (
    JSON,
    CloudEvent,
    UnknownType,
    instant_of,
    is_json,
    quoted,
    text_of_instant,
)
from shared.events.event import Event, Payload

_Header = tuple[str, bytes]

_SPECVERSION: _Header = ("ce_specversion", b"1.0")
_JSON: _Header = (CONTENT_TYPE, JSON.encode())


class _Fixed(NamedTuple):
    """The headers that all events of a type share."""

    type: _Header
    dataschema: _Header
    sparse: bool
    """Whether null means absent; not where the data is somebody else's."""


_FIXED = {
    payload: _Fixed(
        type=("ce_type", name.encode()),
        dataschema=("ce_dataschema", f"/schemas/{name}/v1".encode()),
        sparse=payload.model_config.get("extra") != "allow",
    )
    for name, payload in TYPES.items()
}


def encode(event: Event) -> tuple[tuple[_Header, ...], bytes]:
    """Return headers and value of a Kafka record in binary mode; its key is `event.key`.

    Raises:
        MalformedEvent: An id, source or subject is empty, a time names no zone, or the data cannot
            be written.
    """
    if not (event.id and event.source and event.subject):
        raise MalformedEvent(f"an event of type {event.type} lacks an id, a source or a subject")
    fixed = _FIXED[type(event.data)]
    subject = event.subject.encode()
    headers: list[_Header] = [
        _SPECVERSION,
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        fixed.type,
        ("ce_subject", subject),
        ("ce_time", text_of_instant(event.time).encode()),
        fixed.dataschema,
        ("ce_partitionkey", subject),
        ("ce_traceparent", event.traceparent.encode()),
        ("ce_correlationid", event.correlation_id.encode()),
    ]
    if event.causation_id is not None:
        headers.append(("ce_causationid", event.causation_id.encode()))
    if event.replay_id is not None:
        headers.append(("ce_replayid", event.replay_id.encode()))
    headers.append(_JSON)
    return tuple(headers), _written(event.data, sparse=fixed.sparse)


def _written(data: Payload, *, sparse: bool) -> bytes:
    try:
        # Half the cost of `model_dump_json`, which goes through text and checks its options.
        return data.__pydantic_serializer__.to_json(data, exclude_none=sparse)
    except PydanticSerializationError as error:
        raise MalformedEvent(f"data of type {data.TYPE} cannot be written: {error}") from error


def decode(
    key: bytes | None,
    headers: Headers,
    value: bytes | None,
    *,
    arrived_at: datetime | None = None,
) -> Event:
    """Read an event of our catalogue from a Kafka record.

    Events of other systems may lack what ours always have, see `to_event`; their subject may then
    be the record's key.

    Raises:
        UnknownType: A CloudEvent, but of no type of ours.
        MalformedEvent: No CloudEvent, or its data does not fit its type.
    """
    found = dict(headers)
    if len(found) != len(headers) or value is None:
        return _decode_slowly(key, headers, value, arrived_at)
    try:
        return _decode_ours(found, value)
    except (KeyError, ValueError):
        # Includes every validation error: said again, as a sentence.
        return _decode_slowly(key, headers, value, arrived_at)


def _decode_ours(found: dict[str, bytes], value: bytes) -> Event:
    """Read an event that is complete and in the usual form.

    Raises:
        KeyError: An attribute is missing, or the type unknown.
        ValueError: Anything else is unusual.
    """
    model = TYPES[found["ce_type"].decode()]
    event_id, source = found["ce_id"].decode(), found["ce_source"].decode()
    subject, traceparent = found["ce_subject"].decode(), found["ce_traceparent"].decode()
    correlation_id = found["ce_correlationid"].decode()
    time = datetime.fromisoformat(found["ce_time"].decode())
    if not (
        found[CONTENT_TYPE] == _JSON[1]
        and found["ce_specversion"] == _SPECVERSION[1]
        and event_id
        and source
        and subject
        and correlation_id
        and time.tzinfo is not None
        and is_traceparent(traceparent)
    ):
        raise ValueError(event_id)
    causation_id, replay_id = found.get("ce_causationid"), found.get("ce_replayid")
    return Event(
        id=event_id,
        source=source,
        subject=subject,
        time=time,
        data=model.__pydantic_validator__.validate_json(value),
        correlation_id=correlation_id,
        traceparent=traceparent,
        causation_id=causation_id.decode() if causation_id else None,
        replay_id=replay_id.decode() if replay_id else None,
    )


def _decode_slowly(
    key: bytes | None, headers: Headers, value: bytes | None, arrived_at: datetime | None
) -> Event:
    event = from_kafka(headers, value)
    return to_event(event, key=key, arrived_at=arrived_at)


def to_event(
    event: CloudEvent, *, key: bytes | None = None, arrived_at: datetime | None = None
) -> Event:
    """Return the event of our catalogue that a CloudEvent is.

    What other systems need not send is filled from what they did send: the subject from the
    partition key, the record's key or source and id, the correlation id from the id, the trace
    from the correlation id. Only a missing time has to be given, as the time of arrival.

    Raises:
        UnknownType: No type of ours.
        MalformedEvent: The data does not fit the type, or there is no time.
    """
    attributes = event.attributes
    correlation_id = attributes.get("correlationid") or event.id
    traceparent = attributes.get("traceparent", "")
    return Event(
        id=event.id,
        source=event.source,
        subject=_subject(event, key),
        time=_time(event, arrived_at),
        data=_data(event),
        correlation_id=correlation_id,
        traceparent=traceparent if is_traceparent(traceparent) else _trace(correlation_id),
        causation_id=attributes.get("causationid") or None,
        replay_id=attributes.get("replayid") or None,
    )


def _subject(event: CloudEvent, key: bytes | None) -> str:
    return (
        event.attributes.get("subject")
        or event.attributes.get("partitionkey")
        or (key or b"").decode(errors="replace")
        or f"{event.source}:{event.id}"
    )


def _trace(seed: str) -> str:
    """Begin a trace that the next delivery of the same event begins again."""
    begun = new_traceparent(seed)
    # Ids of other systems need not consist of hexadecimal digits.
    return begun if is_traceparent(begun) else new_traceparent(derived_id(seed, "trace"))


def _time(event: CloudEvent, arrived_at: datetime | None) -> datetime:
    if "time" in event.attributes:
        return instant_of(event.attributes["time"])
    if arrived_at is None:
        raise MalformedEvent(f"the event {quoted(event.id)} has no time")
    return arrived_at


def _data(event: CloudEvent) -> Payload:
    if event.type not in TYPES:
        raise UnknownType(f"the type {quoted(event.type)} is not in the catalogue")
    if event.data is None or not is_json(event.content_type):
        raise MalformedEvent(f"the event {quoted(event.id)} has no JSON data")
    try:
        return TYPES[event.type].model_validate_json(event.data)
    except ValidationError as error:
        raise MalformedEvent(f"the data is no {event.type}: {_faults(error)}") from error


def _faults(error: ValidationError) -> str:
    """Name the fields and what is wrong, never their values."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:5])


def from_event(event: Event) -> CloudEvent:
    """Return an event of ours as a CloudEvent, to be sent over HTTP.

    Raises:
        MalformedEvent: As `encode`.
    """
    headers, value = encode(event)
    return from_kafka(headers, value)
