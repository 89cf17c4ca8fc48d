"""The JSON event format: one event as one JSON object, wherever it travels."""

import base64
import binascii
from collections.abc import Mapping
from typing import cast

import orjson

from shared.domain.errors import MalformedEvent
from shared.events.codec.wire import (
    JSON,
    SPECVERSION,
    CloudEvent,
    is_json,
    parse_json,
    quoted,
    text_of,
)

_NO_ATTRIBUTE = frozenset({"specversion", "datacontenttype", "data", "data_base64"})


def read_object(text: bytes) -> CloudEvent:
    """Read one event.

    Raises:
        MalformedEvent: It is no event.
    """
    return event_of(parse_json(text, "the structured event"))


def event_of(members: object) -> CloudEvent:
    """Return the event that a parsed JSON object is; members that are null count as absent.

    Raises:
        MalformedEvent: It is none.
    """
    if not isinstance(members, dict):
        raise MalformedEvent("a structured event is a JSON object")
    present = {name: value for name, value in members.items() if value is not None}
    if present.get("specversion") != SPECVERSION:
        raise MalformedEvent("'specversion' is missing or not 1.0")
    attributes = {
        name: _attribute(name, value)
        for name, value in present.items()
        if name not in _NO_ATTRIBUTE
    }
    return CloudEvent(attributes, *_data(present))


def _attribute(name: str, value: object) -> str:
    if not isinstance(value, (str, int)):
        message = f"the attribute {quoted(name)} is neither text nor integer nor boolean"
        raise MalformedEvent(message)
    return text_of(value)


def _data(present: Mapping[str, object]) -> tuple[bytes | None, str | None]:
    """Return data and content type; JSON data without a content type is `application/json`."""
    content_type = present.get("datacontenttype")
    if not isinstance(content_type, str | None):
        raise MalformedEvent("'datacontenttype' is not text")
    if "data_base64" in present:
        if "data" in present:
            raise MalformedEvent("'data' and 'data_base64' exclude each other")
        return _decoded(present["data_base64"]), content_type
    if "data" not in present:
        return None, content_type
    data = present["data"]
    if content_type is None or is_json(content_type):
        return orjson.dumps(data), content_type or JSON
    if isinstance(data, str):
        return data.encode(), content_type
    raise MalformedEvent(f"'data' is JSON, but the content type is {quoted(content_type)}")


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise MalformedEvent("'data_base64' is not text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedEvent("'data_base64' is not base64") from error


def write_object(event: CloudEvent) -> bytes:
    """Write one event; data that is JSON stands in it as it is, everything else as base64."""
    return orjson.dumps(members_of(event))


def members_of(event: CloudEvent) -> dict[str, object]:
    """Return the members of the JSON object, ready for `orjson`."""
    members = cast("dict[str, object]", {"specversion": SPECVERSION, **event.attributes})
    if event.content_type is not None:
        members["datacontenttype"] = event.content_type
    if event.data is None:
        return members
    if is_json(event.content_type):
        members["data"] = orjson.Fragment(event.data)
    else:
        members["data_base64"] = base64.b64encode(event.data).decode()
    return members
