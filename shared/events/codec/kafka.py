"""CloudEvents on Kafka: binary mode in `ce_` headers, or structured mode in the value.

Source: CloudEvents Kafka protocol binding 1.0. Header names are case-sensitive and their values
raw UTF-8; a header without the prefix is no attribute.
"""

from collections.abc import Iterable, Sequence

from shared.domain.errors import MalformedEvent
from shared.events.codec import structured
from shared.events.codec.wire import SPECVERSION, CloudEvent, UnsupportedFormat, is_json, quoted

Headers = Sequence[tuple[str, bytes]]

CONTENT_TYPE = "content-type"
PREFIX = "ce_"
_ANY_FORMAT = b"application/cloudevents"
_JSON_FORMAT = "application/cloudevents+json"


def header(headers: Headers, name: str) -> bytes | None:
    """Return the last header of a name, the one that counts on Kafka, or None."""
    for each, value in reversed(headers):
        if each == name:
            return value
    return None


def type_of(headers: Headers) -> str | None:
    """Return the type without decoding the event.

    None where only decoding can tell: structured mode, or headers that are no event's. The type
    need not be in our catalogue.
    """
    content_type = header(headers, CONTENT_TYPE)
    if content_type is not None and _is_structured(content_type):
        return None
    found = header(headers, "ce_type")
    return found.decode(errors="replace") if found else None


def _is_structured(content_type: bytes) -> bool:
    return content_type[: len(_ANY_FORMAT)].lower() == _ANY_FORMAT


def from_kafka(headers: Headers, value: bytes | None) -> CloudEvent:
    """Read the CloudEvent that a record holds. Its key is never looked at and adds nothing.

    Raises:
        MalformedEvent: It holds none.
    """
    content_type = _text(header(headers, CONTENT_TYPE) or b"", CONTENT_TYPE) or None
    if content_type is not None and _is_structured(content_type.encode()):
        return _structured(content_type, value)
    attributes = _attributes(headers)
    if attributes.pop("specversion", None) != SPECVERSION:
        raise MalformedEvent("the header 'ce_specversion' is missing or not 1.0")
    # A JSON text has at least one byte, so nothing at all means that there is no data.
    data = None if value == b"" and is_json(content_type) else value
    return CloudEvent(attributes, data, content_type)


def _structured(content_type: str, value: bytes | None) -> CloudEvent:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != _JSON_FORMAT:
        raise UnsupportedFormat(f"the event format {quoted(content_type)} is not read from Kafka")
    if value is None:
        raise MalformedEvent("a structured event without a value")
    return structured.read_object(value)


def _attributes(headers: Headers) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in headers:
        if not name.startswith(PREFIX):
            continue
        if name[3:] in attributes:
            raise MalformedEvent(f"the header {quoted(name)} is there twice")
        attributes[name[3:]] = _text(value, name)
    return attributes


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise MalformedEvent(f"the header {quoted(name)} is not UTF-8") from error


def to_kafka(event: CloudEvent) -> tuple[bytes, tuple[tuple[str, bytes], ...], bytes | None]:
    """Return key, headers and value of a record in binary mode.

    Raises:
        MalformedEvent: It has no partition key, without which its order would be lost.
    """
    key = event.attributes.get("partitionkey")
    if not key:
        raise MalformedEvent(f"the event {quoted(event.id)} has no 'partitionkey'")
    return key.encode(), tuple(_headers(event)), event.data


def _headers(event: CloudEvent) -> Iterable[tuple[str, bytes]]:
    yield "ce_specversion", SPECVERSION.encode()
    for name, value in event.attributes.items():
        yield PREFIX + name, value.encode()
    if event.content_type is not None:
        yield CONTENT_TYPE, event.content_type.encode()
