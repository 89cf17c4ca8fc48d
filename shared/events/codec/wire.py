"""A CloudEvent of anybody, as it travels: attributes as text, data as bytes, nothing invented."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from shared.domain.errors import MalformedEvent

SPECVERSION = "1.0"
JSON = "application/json"

_REQUIRED = ("id", "source", "type")
_NO_ATTRIBUTE = frozenset({"specversion", "datacontenttype", "data"})
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_LONGEST_QUOTE = 80


class UnsupportedFormat(MalformedEvent):
    """An event format that we do not read, such as Avro; over HTTP that is 415."""


class EventTooLarge(MalformedEvent):
    """More bytes than are accepted; over HTTP that is 413."""


class UnknownType(MalformedEvent):
    """A sound CloudEvent of a type that is not in our catalogue."""


def quoted(text: str) -> str:
    """Return text for an error message: quoted, and cut, since it may be somebody's secret."""
    return repr(text[:_LONGEST_QUOTE])


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One CloudEvent 1.0 of any type.

    Raises:
        MalformedEvent: On construction: `id`, `source` or `type` is missing or empty, an attribute
            has an illegal name, `time` is not RFC 3339, or the data is not the JSON it is said
            to be.
    """

    attributes: Mapping[str, str]
    """All but `specversion`, always 1.0, and `datacontenttype`, which is `content_type`."""
    data: bytes | None = None
    content_type: str | None = None

    def __post_init__(self) -> None:
        for name in self.attributes:
            if name in _NO_ATTRIBUTE or not _NAME.fullmatch(name):
                message = f"{quoted(name)} is no attribute name: lower-case letters and digits"
                raise MalformedEvent(message)
        for name in _REQUIRED:
            if not self.attributes.get(name):
                raise MalformedEvent(f"the attribute {name!r} is missing or empty")
        if "time" in self.attributes:
            instant_of(self.attributes["time"])
        if self.data is not None and is_json(self.content_type):
            parse_json(self.data, "the data")

    @classmethod
    def of(
        cls,
        attributes: Mapping[str, str | int | datetime],
        data: bytes | None = None,
        content_type: str | None = None,
    ) -> "CloudEvent":
        """Make an event whose attributes have types: `42`, `true` and RFC 3339 on the wire."""
        texts = {name: text_of(value) for name, value in attributes.items()}
        return cls(texts, data, content_type)

    @property
    def id(self) -> str:
        """Return the id; with the source it names the event."""
        return self.attributes["id"]

    @property
    def source(self) -> str:
        """Return the source."""
        return self.attributes["source"]

    @property
    def type(self) -> str:
        """Return the type."""
        return self.attributes["type"]


def is_json(content_type: str | None) -> bool:
    """Say whether a content type means JSON: `application/json`, `text/json` or `...+json`."""
    if content_type is None:
        return False
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.endswith(("/json", "+json"))


def parse_json(text: bytes, what: str) -> object:
    """Parse strict JSON.

    Raises:
        MalformedEvent: It is not JSON.
    """
    try:
        parsed: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedEvent(f"{what} is not JSON: {error}") from error
    return parsed


def text_of(value: str | int | datetime) -> str:
    """Return the canonical text of an attribute value (CloudEvents 1.0, type system).

    Raises:
        MalformedEvent: A datetime that names no zone.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return text_of_instant(value)
        case _:
            return str(value)


def text_of_instant(instant: datetime) -> str:
    """Return RFC 3339 in UTC, with as many digits as the instant has: milliseconds or more.

    Raises:
        MalformedEvent: The datetime names no zone.
    """
    if instant.tzinfo is not UTC:
        if instant.tzinfo is None:
            raise MalformedEvent("a time without a zone cannot be written")
        instant = instant.astimezone(UTC)
    precision = "microseconds" if instant.microsecond % 1000 else "milliseconds"
    return instant.isoformat(timespec=precision)[:-6] + "Z"


def instant_of(text: str) -> datetime:
    """Read an RFC 3339 time; digits beyond microseconds are cut.

    Raises:
        MalformedEvent: It is none, or names no zone.
    """
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise MalformedEvent(f"the time {quoted(text)} is not RFC 3339") from error
    if instant.tzinfo is None:
        raise MalformedEvent(f"the time {quoted(text)} names no zone")
    return instant
