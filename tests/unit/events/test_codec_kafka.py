"""CloudEvents on Kafka: the specification, case by case, and round trips of everything."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.errors import MalformedEvent
from shared.domain.tracing import is_traceparent
from shared.events.catalogue import TYPES
from shared.events.codec import (
    CloudEvent,
    UnknownType,
    UnsupportedFormat,
    decode,
    encode,
    from_event,
    from_kafka,
    header,
    to_event,
    to_http_structured,
    to_kafka,
    type_of,
)
from shared.events.event import Event, Payload
from shared.events.executions import ExecutionQueued, ExecutionSubmit
from shared.events.results import ResultStored
from tests.strategies import any_event, events, json_values, texts

JSON = ("content-type", b"application/json")
MINIMAL = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/somewhere"),
    ("ce_type", b"com.example.something"),
)
ARRIVED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUEUED = Event(
    id="0193a1b2-0000-7000-8000-000000000001",
    source="/integr8s/coordinate",
    subject="0193a1b2-0000-7000-8000-00000000000e",
    time=ARRIVED,
    data=ExecutionQueued(
        execution_id="0193a1b2-0000-7000-8000-00000000000e",
        user_id="u1",
        position=3,
        priority="normal",
        queue_depth=9,
    ),
    correlation_id="c1",
    traceparent=TRACEPARENT,
    causation_id="0193a1b2-0000-7000-8000-000000000000",
)


def with_header(name: str, value: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the minimal headers with one of them replaced, or added."""
    return (*((each, old) for each, old in MINIMAL if each != name), (name, value))


def structured(**members: object) -> bytes:
    """Return a structured event: the minimal one with more members."""
    event = {"specversion": "1.0", "id": "1", "source": "/somewhere", "type": "t", **members}
    return orjson.dumps(event)


class TestReadingBinary:
    """Attributes in headers, data in the value."""

    def test_minimal_event(self) -> None:
        """What is absent stays absent: no time, no subject, no id is invented."""
        event = from_kafka(MINIMAL, b"payload")

        assert event == CloudEvent(
            {"id": "1", "source": "/somewhere", "type": "com.example.something"}, b"payload"
        )

    @pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
    def test_missing_required_header(self, name: str) -> None:
        """A refusal names the attribute that is missing."""
        headers = [(each, value) for each, value in MINIMAL if each != name]

        with pytest.raises(MalformedEvent, match=name.removeprefix("ce_")):
            from_kafka(headers, b"")

    @pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
    def test_empty_required_header(self, name: str) -> None:
        """Empty is as bad as missing."""
        with pytest.raises(MalformedEvent, match=name.removeprefix("ce_")):
            from_kafka(with_header(name, b""), b"")

    def test_other_specversion(self) -> None:
        """0.3 had other rules, so it is refused rather than guessed at."""
        with pytest.raises(MalformedEvent, match=r"not 1\.0"):
            from_kafka(with_header("ce_specversion", b"0.3"), b"")

    def test_partition_key_is_kept(self) -> None:
        """The attribute is read like every other."""
        event = from_kafka((*MINIMAL, ("ce_partitionkey", "schlüssel".encode())), b"")

        assert event.attributes["partitionkey"] == "schlüssel"

    def test_partition_key_is_not_invented(self) -> None:
        """A record's key is no attribute."""
        assert "partitionkey" not in from_kafka(MINIMAL, b"").attributes

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("Grüße aus Köln", id="non-ascii"),
            pytest.param('said "hello"', id="quotes"),
            pytest.param("100%25", id="percent"),
        ],
    )
    def test_values_are_raw(self, value: str) -> None:
        """Kafka headers are UTF-8 as it is; nothing is percent-decoded or unquoted."""
        assert (
            from_kafka((*MINIMAL, ("ce_subject", value.encode())), b"").attributes["subject"]
            == value
        )

    def test_value_that_is_not_utf_8(self) -> None:
        """A refusal names the header."""
        with pytest.raises(MalformedEvent, match="'ce_subject' is not UTF-8"):
            from_kafka((*MINIMAL, ("ce_subject", b"\xff")), b"")

    def test_text_data(self) -> None:
        """Data of another type stays bytes."""
        event = from_kafka((*MINIMAL, ("content-type", b"text/plain")), b"\xffhello")

        assert (event.data, event.content_type) == (b"\xffhello", "text/plain")

    @pytest.mark.parametrize(
        "content_type", [b"application/json", b"application/vnd.x+json; charset=utf-8"]
    )
    def test_broken_json(self, content_type: bytes) -> None:
        """What says that it is JSON has to be JSON."""
        with pytest.raises(MalformedEvent, match="not JSON"):
            from_kafka((*MINIMAL, ("content-type", content_type)), b'{"a":')

    def test_suffixed_json(self) -> None:
        """`+json` is JSON."""
        event = from_kafka((*MINIMAL, ("content-type", b"application/vnd.x+json")), b'{"a":1}')

        assert event.data == b'{"a":1}'

    def test_no_value(self) -> None:
        """A record without a value is an event without data."""
        assert from_kafka((*MINIMAL, JSON), None).data is None

    def test_header_twice(self) -> None:
        """Two ids are none: nobody can say which one was meant."""
        with pytest.raises(MalformedEvent, match="'ce_id' is there twice"):
            from_kafka((*MINIMAL, ("ce_id", b"2")), b"")

    def test_header_names_have_case(self) -> None:
        """`CE_SUBJECT` is somebody else's header."""
        assert "subject" not in from_kafka((*MINIMAL, ("CE_SUBJECT", b"x")), b"").attributes

    def test_plain_traceparent_is_no_attribute(self) -> None:
        """A tracing library's own header stands beside the attribute, and can still be read."""
        headers = (*MINIMAL, ("ce_traceparent", b"ours"), ("traceparent", b"theirs"))

        event = from_kafka(headers, b"")

        assert event.attributes["traceparent"] == "ours"
        assert header(headers, "traceparent") == b"theirs"

    @pytest.mark.parametrize("name", ["ce_Upper", "ce_with-dash", "ce_with_underscore", "ce_"])
    def test_illegal_name(self, name: str) -> None:
        """An attribute that could not be passed on is refused on arrival."""
        with pytest.raises(MalformedEvent, match="no attribute name"):
            from_kafka((*MINIMAL, (name, b"x")), b"")

    @pytest.mark.parametrize("time", [b"yesterday", b"2026-11-21", b"2026-11-21T09:30:00"])
    def test_time_that_is_none(self, time: bytes) -> None:
        """A time has a date, a time of day and a zone."""
        with pytest.raises(MalformedEvent, match="time"):
            from_kafka((*MINIMAL, ("ce_time", time)), b"")

    def test_time_stays_as_it_was_written(self) -> None:
        """Digits and zone of somebody else's time are not touched."""
        text = "2026-11-21t09:30:00.123456789+01:00"

        event = from_kafka((*MINIMAL, ("ce_time", text.encode())), b"")

        assert event.attributes["time"] == text


class TestReadingStructured:
    """Everything in the value."""

    def test_content_type_in_any_case(self) -> None:
        """The mode is told by the content type; `ce_` and other headers add nothing."""
        headers = (
            ("content-type", b"Application/CloudEvents+JSON; charset=utf-8"),
            ("ce_id", b"other"),
            ("ce_extra", b"x"),
            ("plain", b"y"),
        )

        event = from_kafka(headers, structured(subject="s"))

        assert dict(event.attributes) == {
            "id": "1",
            "source": "/somewhere",
            "type": "t",
            "subject": "s",
        }

    def test_no_value(self) -> None:
        """There is no event without its value."""
        with pytest.raises(MalformedEvent, match="without a value"):
            from_kafka((("content-type", b"application/cloudevents+json"),), None)

    @pytest.mark.parametrize(
        "content_type", [b"application/cloudevents-batch+json", b"application/cloudevents+avro"]
    )
    def test_other_formats(self, content_type: bytes) -> None:
        """Batches do not exist on Kafka, and Avro is not read; the refusal names the format."""
        with pytest.raises(UnsupportedFormat, match=content_type.decode().replace("+", r"\+")):
            from_kafka((("content-type", content_type),), structured())

    def test_typed_attributes(self) -> None:
        """Numbers and booleans become their canonical text."""
        headers = (("content-type", b"application/cloudevents+json"),)

        event = from_kafka(headers, structured(answer=42, sure=True))

        assert (event.attributes["answer"], event.attributes["sure"]) == ("42", "true")

    def test_ours(self) -> None:
        """Our own types are read in this mode too."""
        _, value = to_http_structured(from_event(QUEUED))

        event = decode(None, (("content-type", b"application/cloudevents+json"),), value)

        assert event == QUEUED


class TestWriting:
    """Binary mode."""

    def test_key_is_the_partition_key(self) -> None:
        """The attribute decides, and is written too."""
        event = CloudEvent.of(
            {"id": "1", "source": "s", "type": "t", "partitionkey": "ключ"}, b"x", "text/plain"
        )

        key, headers, value = to_kafka(event)

        assert key == "ключ".encode()
        assert header(headers, "ce_partitionkey") == key
        assert (header(headers, "content-type"), value) == (b"text/plain", b"x")

    def test_no_partition_key(self) -> None:
        """Without a key the order of events would be lost."""
        with pytest.raises(MalformedEvent, match="partitionkey"):
            to_kafka(CloudEvent({"id": "1", "source": "s", "type": "t"}))

    def test_extensions_have_canonical_texts(self) -> None:
        """42, true and RFC 3339, whatever Python calls them; they are read back as text."""
        at = datetime(2026, 11, 21, 10, 30, 0, 125_000, tzinfo=timezone(timedelta(hours=1)))
        event = CloudEvent.of(
            {"id": "1", "source": "s", "type": "t", "partitionkey": "k"}
            | {"answer": 42, "sure": True, "at": at}
        )

        _, headers, value = to_kafka(event)

        read = from_kafka(headers, value)
        assert read == event
        assert [read.attributes[name] for name in ("answer", "sure", "at")] == [
            "42",
            "true",
            "2026-11-21T09:30:00.125Z",
        ]

    @pytest.mark.parametrize("name", ["Upper", "with-dash", "with_underscore", "data", ""])
    def test_illegal_names(self, name: str) -> None:
        """Names are lower-case letters and digits, and none that the formats use themselves."""
        with pytest.raises(MalformedEvent, match="no attribute name"):
            CloudEvent({"id": "1", "source": "s", "type": "t", name: "x"})

    def test_time_without_a_zone(self) -> None:
        """It would mean another instant on every machine."""
        naive = datetime(2026, 11, 21)  # noqa: DTZ001 - that is the point

        with pytest.raises(MalformedEvent, match="without a zone"):
            CloudEvent.of({"id": "1", "source": "s", "type": "t", "time": naive})

    @given(st.dictionaries(st.from_regex("[a-z0-9]{5,12}", fullmatch=True), texts), st.binary())
    def test_unknown_extensions_survive(self, extensions: dict[str, str], data: bytes) -> None:
        """What we do not know is passed on as it came."""
        known = {"id": "1", "source": "s", "type": "t", "partitionkey": "k"}
        event = CloudEvent({**extensions, **known, "time": "2026-11-21T09:30:00Z"}, data)

        _, headers, value = to_kafka(event)

        assert from_kafka(headers, value) == event


class TestOurs:
    """Events of the catalogue."""

    @pytest.mark.parametrize("model", TYPES.values(), ids=TYPES)
    @given(data=st.data())
    @settings(
        max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )
    def test_round_trip(self, model: type[Payload], data: st.DataObject) -> None:
        """What is read is what was written, to the microsecond, in every type."""
        event = data.draw(events(model))

        headers, value = encode(event)

        assert decode(event.key.encode(), headers, value) == event

    @given(event=any_event)
    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    def test_both_ways_of_reading_agree(self, event: Event) -> None:
        """The short way through `decode` and the long one through `CloudEvent` give one event."""
        headers, value = encode(event)

        assert to_event(from_kafka(headers, value)) == decode(None, headers, value)

    def test_headers(self) -> None:
        """The attributes that other programs find on our topics."""
        headers, value = encode(QUEUED)

        assert dict(headers) == {
            "ce_specversion": b"1.0",
            "ce_id": b"0193a1b2-0000-7000-8000-000000000001",
            "ce_source": b"/integr8s/coordinate",
            "ce_type": b"execution.queued",
            "ce_subject": b"0193a1b2-0000-7000-8000-00000000000e",
            "ce_time": b"2026-11-21T09:30:00.000Z",
            "ce_dataschema": b"/schemas/execution.queued/v1",
            "ce_partitionkey": b"0193a1b2-0000-7000-8000-00000000000e",
            "ce_traceparent": TRACEPARENT.encode(),
            "ce_correlationid": b"c1",
            "ce_causationid": b"0193a1b2-0000-7000-8000-000000000000",
            "content-type": b"application/json",
        }
        assert orjson.loads(value) == {
            "execution_id": "0193a1b2-0000-7000-8000-00000000000e",
            "user_id": "u1",
            "position": 3,
            "priority": "normal",
            "queue_depth": 9,
        }

    @pytest.mark.parametrize(
        ("microsecond", "text"), [(125_000, b"09:30:00.125Z"), (125_001, b"09:30:00.125001Z")]
    )
    def test_time_has_the_digits_it_needs(self, microsecond: int, text: bytes) -> None:
        """Milliseconds are the rule, microseconds are kept where there are any."""
        headers, _ = encode(replace(QUEUED, time=ARRIVED.replace(microsecond=microsecond)))

        assert header(headers, "ce_time") == b"2026-11-21T" + text

    @pytest.mark.parametrize(
        "event",
        [replace(QUEUED, id=""), replace(QUEUED, source=""), replace(QUEUED, subject="")],
        ids=["id", "source", "subject"],
    )
    def test_incomplete_event_is_not_written(self, event: Event) -> None:
        """What nobody could read is refused before it is in the log; the subject is the key."""
        with pytest.raises(MalformedEvent, match="lacks"):
            encode(event)

    def test_time_without_a_zone_is_not_written(self) -> None:
        """It would mean another instant on every machine."""
        with pytest.raises(MalformedEvent, match="without a zone"):
            encode(replace(QUEUED, time=datetime(2026, 11, 21)))  # noqa: DTZ001 - the point

    def test_data_that_is_no_text_is_not_written(self) -> None:
        """Half a surrogate pair has no UTF-8; the refusal is permanent, not a bug's traceback."""
        data = ExecutionSubmit.model_validate({"script": "\ud800"})

        with pytest.raises(MalformedEvent, match="cannot be written"):
            encode(replace(QUEUED, data=data))

    def test_null_inside_a_result_is_kept(self) -> None:
        """Only fields of the model are left out when null; documents inside are not touched."""
        data = ResultStored(
            execution_id="e",
            user_id="u",
            status="completed",
            storage_path="e",
            size_bytes=1,
            result={"error_type": None},
        )

        _, value = encode(replace(QUEUED, data=data))

        assert orjson.loads(value)["result"] == {"error_type": None}

    def test_unknown_field_is_tolerated(self) -> None:
        """A newer writer does not stop an older reader."""
        headers, value = encode(QUEUED)

        assert decode(None, headers, value[:-1] + b',"new":1}') == QUEUED

    def test_wrong_data(self) -> None:
        """The refusal names field and fault, and not the value, which may be a secret."""
        headers, value = encode(QUEUED)

        with pytest.raises(MalformedEvent, match="position: Input should be a valid int") as caught:
            decode(None, headers, value.replace(b":3,", b':"hunter2",'))
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("value", [None, b""])
    def test_no_data(self, value: bytes | None) -> None:
        """Each of our types has data."""
        headers, _ = encode(QUEUED)

        with pytest.raises(MalformedEvent, match="no JSON data"):
            decode(None, headers, value)

    def test_unknown_type(self) -> None:
        """It is told apart from broken events, for those who just skip it."""
        with pytest.raises(UnknownType, match=r"com\.example\.something"):
            decode(None, (*MINIMAL, JSON, ("ce_time", b"2026-11-21T09:30:00Z")), b"{}")

    @given(data=json_values, name=st.sampled_from([name for name, _ in encode(QUEUED)[0]]))
    def test_damaged_header_never_escapes_as_a_bug(self, data: object, name: str) -> None:
        """Whatever stands in a header: an event or a permanent refusal."""
        headers, value = encode(QUEUED)
        damaged = [(each, orjson.dumps(data) if each == name else old) for each, old in headers]

        try:
            event = decode(None, damaged, value)
        except MalformedEvent:
            return
        assert is_traceparent(event.traceparent)


class TestOfOthers:
    """Submissions by other systems, which know less than we do."""

    HEADERS = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"order-7"),
        ("ce_source", b"/shop"),
        ("ce_type", b"execution.submit"),
        JSON,
    )
    BODY = b'{"script":"print(1)"}'

    def test_least_submission(self) -> None:
        """Whatever is missing follows from what is there."""
        event = decode(None, self.HEADERS, self.BODY, arrived_at=ARRIVED)

        assert event.data == ExecutionSubmit.model_validate({"script": "print(1)"})
        assert (event.id, event.source, event.time) == ("order-7", "/shop", ARRIVED)
        assert (event.subject, event.correlation_id) == ("/shop:order-7", "order-7")

    @pytest.mark.parametrize("event_id", ["order-7", "0193a1b2-0000-7000-8000-000000000001", "0"])
    def test_trace_begins(self, event_id: str) -> None:
        """A trace is begun, the same one at every delivery."""
        headers = [(n, event_id.encode() if n == "ce_id" else v) for n, v in self.HEADERS]

        first = decode(None, headers, self.BODY, arrived_at=ARRIVED)
        again = decode(None, headers, self.BODY, arrived_at=ARRIVED)

        assert is_traceparent(first.traceparent)
        assert first == again

    def test_trace_is_continued(self) -> None:
        """A trace that came along is kept."""
        headers = (*self.HEADERS, ("ce_traceparent", TRACEPARENT.encode()))

        assert decode(None, headers, self.BODY, arrived_at=ARRIVED).traceparent == TRACEPARENT

    def test_useless_trace_is_replaced(self) -> None:
        """A trace that no collector would take is not passed on."""
        headers = (*self.HEADERS, ("ce_traceparent", b"00-zz-01"))

        event = decode(None, headers, self.BODY, arrived_at=ARRIVED)

        assert is_traceparent(event.traceparent)

    @pytest.mark.parametrize(
        ("extra", "subject"),
        [
            pytest.param([("ce_subject", b"s"), ("ce_partitionkey", b"p")], "s", id="subject"),
            pytest.param([("ce_partitionkey", b"p")], "p", id="partition-key"),
            pytest.param([], "k", id="record-key"),
        ],
    )
    def test_subject(self, extra: list[tuple[str, bytes]], subject: str) -> None:
        """The narrowest name that came along is the subject."""
        event = decode(b"k", (*self.HEADERS, *extra), self.BODY, arrived_at=ARRIVED)

        assert event.subject == subject

    def test_no_time(self) -> None:
        """A time is never made up here; who has a clock gives the time of arrival."""
        with pytest.raises(MalformedEvent, match="no time"):
            decode(None, self.HEADERS, self.BODY)


class TestLookingAtHeaders:
    """What can be known without decoding."""

    def test_type_of_ours(self) -> None:
        """The type stands in a header."""
        assert type_of(encode(QUEUED)[0]) == "execution.queued"

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([], id="no-headers"),
            pytest.param([("ce_id", b"1")], id="no-type"),
            pytest.param(
                [("ce_type", b"t"), ("content-type", b"application/cloudevents+json")],
                id="structured",
            ),
        ],
    )
    def test_type_that_cannot_be_seen(self, headers: list[tuple[str, bytes]]) -> None:
        """Only decoding tells."""
        assert type_of(headers) is None

    def test_last_header_counts(self) -> None:
        """Whoever adds a header later has the last word."""
        headers = (("dlqattempt", b"1"), ("dlqattempt", b"2"))

        assert header(headers, "dlqattempt") == b"2"
        assert header(headers, "absent") is None
