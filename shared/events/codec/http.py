"""CloudEvents over HTTP: binary mode in `ce-` headers, structured and batch mode in the body.

Source: CloudEvents HTTP protocol binding 1.0. Header names have no case, values are percent-encoded
UTF-8.
"""

import re
import string
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

import orjson

from shared.domain.errors import MalformedEvent
from shared.events.codec import structured
from shared.events.codec.wire import (
    SPECVERSION,
    CloudEvent,
    EventTooLarge,
    UnsupportedFormat,
    parse_json,
    quoted,
)

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_ANY_FORMAT = "application/cloudevents"
_PREFIX = "ce-"
_CONTENT_TYPE = "content-type"
_READABLE = "".join(sorted(set(string.printable) - set(string.whitespace) - set('"%')))
"""What stands for itself in a header value (HTTP binding, 3.1.3.2)."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def from_http(
    headers: Mapping[str, str], body: bytes, *, max_bytes: int | None = None
) -> list[CloudEvent]:
    """Read the events of one request: one, or those of a batch, which may be none.

    All or nothing: one bad event of a batch refuses the whole.

    Raises:
        EventTooLarge: The body has more than `max_bytes`.
        UnsupportedFormat: An event format that we do not read.
        MalformedEvent: Anything else that makes it no event.
    """
    if max_bytes is not None and len(body) > max_bytes:
        raise EventTooLarge(f"the body has {len(body)} bytes, {max_bytes} are accepted")
    lower = [(name.lower(), value) for name, value in headers.items()]
    content_type = next((value for name, value in lower if name == _CONTENT_TYPE), None)
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if not media_type.startswith(_ANY_FORMAT):
        return [_binary(lower, body, content_type)]
    match media_type:
        case "application/cloudevents+json":
            return [structured.read_object(body)]
        case "application/cloudevents-batch+json":
            return _batch(body)
        case _:
            raise UnsupportedFormat(f"the event format {quoted(media_type)} is not read")


def _binary(
    headers: Iterable[tuple[str, str]], body: bytes, content_type: str | None
) -> CloudEvent:
    attributes: dict[str, str] = {}
    for header, value in headers:
        if not header.startswith(_PREFIX):
            continue
        name = header[len(_PREFIX) :]
        if name in attributes:
            raise MalformedEvent(f"the header {quoted(header)} is there twice")
        attributes[name] = _decoded(header, value)
    if attributes.pop("specversion", None) != SPECVERSION:
        raise MalformedEvent("the header 'ce-specversion' is missing or not 1.0")
    return CloudEvent(attributes, body or None, content_type)


def _batch(body: bytes) -> list[CloudEvent]:
    events = parse_json(body, "the batch")
    if not isinstance(events, list):
        raise MalformedEvent("a batch is a JSON array")
    return [_item(number, event) for number, event in enumerate(events)]


def _item(number: int, event: object) -> CloudEvent:
    try:
        return structured.event_of(event)
    except MalformedEvent as error:
        raise MalformedEvent(f"event {number} of the batch: {error}") from error


def _decoded(header: str, value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        message = f"the header {quoted(header)} is not percent-encoded UTF-8"
        raise MalformedEvent(message) from error


def to_http_binary(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body in binary mode."""
    headers = {"ce-specversion": SPECVERSION}
    for name, value in event.attributes.items():
        headers[_PREFIX + name] = quote(value, safe=_READABLE)
    if event.content_type is not None:
        headers[_CONTENT_TYPE] = event.content_type
    return headers, event.data or b""


def to_http_structured(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body in structured mode."""
    return {_CONTENT_TYPE: STRUCTURED}, structured.write_object(event)


def to_http_batch(events: Iterable[CloudEvent]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a batch."""
    return {_CONTENT_TYPE: BATCH}, orjson.dumps([structured.members_of(each) for each in events])
