"""CloudEvents over HTTP: the specification, case by case, and interoperation with the SDK."""

from collections.abc import Callable

import cloudevents.conversion
import cloudevents.http
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.errors import MalformedEvent
from shared.events.codec import (
    CloudEvent,
    EventTooLarge,
    UnsupportedFormat,
    from_event,
    from_http,
    to_event,
    to_http_batch,
    to_http_binary,
    to_http_structured,
)
from shared.events.event import Event
from tests.strategies import any_event, json_values, texts

MINIMAL = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/somewhere", "ce-type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
EVENT = CloudEvent(
    {"id": "1", "source": "/somewhere", "type": "t", "subject": "s", "answer": "42"},
    b'{"a":[1,null]}',
    "application/json",
)

names = st.from_regex("[a-z0-9]{5,12}", fullmatch=True).filter(lambda name: name != "specversion")
cloud_events = st.builds(
    lambda extensions, data, content_type: CloudEvent(
        {**extensions, "id": "1", "source": "s", "type": "t"}, data, content_type
    ),
    extensions=st.dictionaries(names, texts, max_size=4),
    data=st.none() | st.binary(min_size=1),
    content_type=st.sampled_from([None, "text/plain", "application/octet-stream"]),
) | st.builds(
    lambda data: CloudEvent({"id": "1", "source": "s", "type": "t"}, data, "application/json"),
    data=json_values.filter(lambda value: value is not None).map(orjson.dumps),
)


def members(**extra: object) -> dict[str, object]:
    """Return the minimal structured event with more members."""
    return {"specversion": "1.0", "id": "1", "source": "/somewhere", "type": "t", **extra}


def structured(**extra: object) -> CloudEvent:
    """Read the minimal structured event with more members."""
    (event,) = from_http(STRUCTURED, orjson.dumps(members(**extra)))
    return event


class TestReadingBinary:
    """Attributes in headers, data in the body."""

    def test_minimal_event(self) -> None:
        """What is absent stays absent."""
        assert from_http(MINIMAL, b"") == [
            CloudEvent({"id": "1", "source": "/somewhere", "type": "t"})
        ]

    def test_names_have_no_case(self) -> None:
        """HTTP header names may come in any case."""
        headers = {"CE-SpecVersion": "1.0", "Ce-Id": "1", "CE-SOURCE": "s", "ce-type": "t"}

        (event,) = from_http({**headers, "Content-Type": "text/plain"}, b"x")

        assert (event.id, event.content_type) == ("1", "text/plain")

    @pytest.mark.parametrize("name", MINIMAL)
    def test_missing_required_header(self, name: str) -> None:
        """A refusal names the attribute."""
        headers = {each: value for each, value in MINIMAL.items() if each != name}

        with pytest.raises(MalformedEvent, match=name.removeprefix("ce-")):
            from_http(headers, b"")

    @pytest.mark.parametrize("name", MINIMAL)
    def test_empty_required_header(self, name: str) -> None:
        """Empty is as bad as missing."""
        with pytest.raises(MalformedEvent, match=name.removeprefix("ce-")):
            from_http({**MINIMAL, name: ""}, b"")

    def test_plain_request(self) -> None:
        """A structured body under `application/json` is no event, and nothing guesses at it."""
        with pytest.raises(MalformedEvent, match="ce-specversion"):
            from_http({"content-type": "application/json"}, orjson.dumps(members()))

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            pytest.param("Gr%C3%BC%C3%9Fe", "Grüße", id="utf-8"),
            pytest.param("a%20b%22c", 'a b"c', id="space-and-quote"),
            pytest.param("%2525", "%25", id="decoded-once"),
            pytest.param('"a b"', "a b", id="quoted"),
            pytest.param(r'"say \"hi\" \\ %41"', r'say "hi" \ A', id="quoted-with-escapes"),
            pytest.param('"', '"', id="lone-quote"),
            pytest.param("100%", "100%", id="lone-percent"),
            pytest.param("Grüße", "Grüße", id="never-encoded"),
        ],
    )
    def test_values_are_decoded(self, value: str, text: str) -> None:
        """Unquoted where quoted, then percent-decoded, once."""
        (event,) = from_http({**MINIMAL, "ce-subject": value}, b"")

        assert event.attributes["subject"] == text

    def test_value_that_is_not_utf_8(self) -> None:
        """A refusal names the header."""
        with pytest.raises(MalformedEvent, match="'ce-subject' is not percent-encoded UTF-8"):
            from_http({**MINIMAL, "ce-subject": "%FF"}, b"")

    def test_header_twice(self) -> None:
        """Two ids are none."""
        with pytest.raises(MalformedEvent, match="'ce-id' is there twice"):
            from_http({**MINIMAL, "CE-Id": "2"}, b"")

    def test_empty_body_is_no_data(self) -> None:
        """An empty body under a JSON type is not broken JSON but nothing."""
        (event,) = from_http({**MINIMAL, "content-type": "application/json"}, b"")

        assert event.data is None

    def test_broken_json(self) -> None:
        """What says that it is JSON has to be JSON."""
        with pytest.raises(MalformedEvent, match="not JSON"):
            from_http({**MINIMAL, "content-type": "application/json"}, b"{")


class TestReadingStructured:
    """Everything in the body."""

    def test_content_type_in_any_case(self) -> None:
        """Media types have no case, and may have parameters."""
        headers = {"Content-Type": "Application/CloudEvents+JSON; charset=UTF-8"}

        (event,) = from_http({**headers, "ce-id": "other"}, orjson.dumps(members()))

        assert event.id == "1"

    def test_null_is_absent(self) -> None:
        """A null attribute is as if it were not there."""
        assert structured(subject=None) == structured()

    @pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
    @pytest.mark.parametrize("value", [None, ""], ids=["null", "empty"])
    def test_required_member(self, name: str, value: str | None) -> None:
        """A refusal names the attribute."""
        with pytest.raises(MalformedEvent, match=name):
            structured(**{name: value})

    @pytest.mark.parametrize("value", [1.5, [1], {"a": 1}], ids=["float", "list", "object"])
    def test_attribute_of_another_type(self, value: object) -> None:
        """Attributes are text, integers and booleans."""
        with pytest.raises(MalformedEvent, match="'answer' is neither"):
            structured(answer=value)

    @pytest.mark.parametrize(
        ("extra", "data", "content_type"),
        [
            pytest.param({}, None, None, id="none"),
            pytest.param({"data": None}, None, None, id="null"),
            pytest.param({"data": {"a": 1}}, b'{"a":1}', "application/json", id="json"),
            pytest.param({"data": "x"}, b'"x"', "application/json", id="json-text"),
            pytest.param(
                {"data": "grün", "datacontenttype": "text/plain"},
                "grün".encode(),
                "text/plain",
                id="text",
            ),
            pytest.param(
                {"data": {"a": 1}, "datacontenttype": "application/vnd.x+json"},
                b'{"a":1}',
                "application/vnd.x+json",
                id="suffixed-json",
            ),
            pytest.param({"data_base64": "/w=="}, b"\xff", None, id="bytes"),
        ],
    )
    def test_data(
        self, extra: dict[str, object], data: bytes | None, content_type: str | None
    ) -> None:
        """Data as JSON, as text under a type of its own, or as bytes."""
        event = structured(**extra)

        assert (event.data, event.content_type) == (data, content_type)

    @pytest.mark.parametrize(
        ("extra", "cause"),
        [
            pytest.param({"data": 1, "data_base64": "/w=="}, "exclude each other", id="both"),
            pytest.param({"data_base64": "no base64!"}, "not base64", id="broken-base64"),
            pytest.param({"data_base64": 1}, "not text", id="base64-number"),
            pytest.param({"data": 1, "datacontenttype": "text/plain"}, "is JSON", id="mixed"),
            pytest.param({"datacontenttype": 1}, "not text", id="content-type-number"),
            pytest.param(
                {"data_base64": "ew==", "datacontenttype": "application/json"},
                "the data is not JSON",
                id="broken-json-in-base64",
            ),
        ],
    )
    def test_contradictions(self, extra: dict[str, object], cause: str) -> None:
        """A refusal names the cause."""
        with pytest.raises(MalformedEvent, match=cause):
            structured(**extra)

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"1", b'"x"', b"\xff", b"[" * 100_000, b'{"id":NaN}'],
        ids=["empty", "cut", "list", "number", "text", "bytes", "deep", "nan"],
    )
    def test_no_object(self, body: bytes) -> None:
        """Whatever is posted: a refusal, never a bug."""
        with pytest.raises(MalformedEvent):
            from_http(STRUCTURED, body)


class TestReadingBatches:
    """Many events in one body."""

    def test_empty(self) -> None:
        """A batch may hold nothing."""
        assert from_http(BATCH, b"[]") == []

    def test_in_order(self) -> None:
        """Events come out as they went in."""
        body = orjson.dumps([members(id=str(number)) for number in range(3)])

        assert [event.id for event in from_http(BATCH, body)] == ["0", "1", "2"]

    def test_one_bad_event(self) -> None:
        """One bad event refuses all, and the refusal says which."""
        body = orjson.dumps([members(), members(source="")])

        with pytest.raises(MalformedEvent, match=r"event 1 of the batch: .*'source'"):
            from_http(BATCH, body)

    def test_no_list(self) -> None:
        """A batch is a list."""
        with pytest.raises(MalformedEvent, match="array"):
            from_http(BATCH, orjson.dumps(members()))


class TestRefusals:
    """Refusals that have a status of their own."""

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/cloudevents+avro",
            "application/cloudevents+protobuf",
            "application/cloudevents-batch+avro",
            "application/cloudevents",
        ],
    )
    def test_other_formats(self, media_type: str) -> None:
        """Formats that we do not read."""
        with pytest.raises(UnsupportedFormat, match="is not read"):
            from_http({"content-type": media_type}, b"")

    def test_too_large(self) -> None:
        """The limit is checked before anything is parsed."""
        with pytest.raises(EventTooLarge, match="11 bytes, 10 are accepted"):
            from_http(STRUCTURED, b"x" * 11, max_bytes=10)

    def test_exactly_the_limit(self) -> None:
        """As many bytes as are allowed are accepted."""
        body = orjson.dumps(members())

        assert from_http(STRUCTURED, body, max_bytes=len(body))


class TestRoundTrips:
    """What we write, we read."""

    @given(event=cloud_events)
    def test_binary(self, event: CloudEvent) -> None:
        """Any text in an attribute survives, and any bytes."""
        assert from_http(*to_http_binary(event)) == [event]

    @given(event=cloud_events)
    def test_headers_are_printable(self, event: CloudEvent) -> None:
        """No text can break out of its header."""
        headers, _ = to_http_binary(event)

        values = "".join(value for name, value in headers.items() if name.startswith("ce-"))
        assert all("!" <= character <= "~" and character != '"' for character in values)

    @given(event=cloud_events)
    def test_structured(self, event: CloudEvent) -> None:
        """Any text in an attribute survives, and any bytes."""
        assert from_http(*to_http_structured(event)) == [event]

    @given(events=st.lists(cloud_events, max_size=3))
    def test_batch(self, events: list[CloudEvent]) -> None:
        """All of them, in order."""
        assert from_http(*to_http_batch(events)) == events

    @given(event=any_event)
    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    def test_ours(self, event: Event) -> None:
        """Events of the catalogue come out of HTTP as they went in."""
        (binary,) = from_http(*to_http_binary(from_event(event)))
        (whole,) = from_http(*to_http_structured(from_event(event)))

        assert to_event(binary) == to_event(whole) == event


class TestInteroperation:
    """The SDK of the CloudEvents project as the other side."""

    def test_sdk_reads_our_binary(self) -> None:
        """Attributes, extensions and data arrive."""
        event = cloudevents.http.from_http(*to_http_binary(EVENT))

        assert (
            event.get_attributes().items()
            >= {
                **EVENT.attributes,
                "specversion": "1.0",
                "datacontenttype": "application/json",
            }.items()
        )
        assert event.get_data() == {"a": [1, None]}

    def test_sdk_reads_our_structured(self) -> None:
        """Attributes, extensions and data arrive."""
        event = cloudevents.http.from_http(*to_http_structured(EVENT))

        assert event.get_attributes().items() >= EVENT.attributes.items()
        assert event.get_data() == {"a": [1, None]}

    def test_sdk_reads_our_bytes(self) -> None:
        """Data that is no JSON arrives byte for byte."""
        event = CloudEvent({"id": "1", "source": "s", "type": "t"}, b"\xff\x00", "image/x")

        assert cloudevents.http.from_http(*to_http_structured(event)).get_data() == b"\xff\x00"

    @pytest.mark.parametrize(
        "write", [cloudevents.conversion.to_binary, cloudevents.conversion.to_structured]
    )
    def test_we_read_the_sdk(self, write: Callable[..., tuple[dict[str, str], bytes]]) -> None:
        """Attributes, extensions and data arrive, in both modes."""
        theirs = cloudevents.http.CloudEvent(
            {"source": "/shop", "type": "order.placed", "subject": "7", "tenant": "a"}
            | {"datacontenttype": "application/json"},
            {"total": 12.5},
        )

        (event,) = from_http(*write(theirs))

        expected = {"id", "source", "type", "subject", "tenant", "time"}
        assert event.attributes == {name: theirs[name] for name in expected}
        assert orjson.loads(event.data or b"") == {"total": 12.5}
