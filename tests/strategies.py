"""Events that nobody thought of, for Hypothesis."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from shared.events.catalogue import TYPES
from shared.events.event import Event, Payload
from shared.events.executions import ExecutionSubmit

_EARLIEST, _LATEST = datetime(1970, 1, 2), datetime(2200, 1, 1)  # noqa: DTZ001 - drawn with zones

texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=40)
floats = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(min_value=-(2**53), max_value=2**53)
utc_times = st.datetimes(_EARLIEST, _LATEST, timezones=st.just(UTC))
times = st.datetimes(
    _EARLIEST,
    _LATEST,
    timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
digits = st.sampled_from("0123456789abcdef")
traceparents = st.builds(
    "00-{}1-{}1-01".format,
    st.text(digits, min_size=31, max_size=31),
    st.text(digits, min_size=15, max_size=15),
)

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: integers,
    float: floats,
    bool: st.booleans(),
    datetime: utc_times,
    Any: json_values,
    type(None): st.none(),
}


def models(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Return instances of a model, every field of it drawn."""
    fields = {name: _values(field.annotation) for name, field in model.model_fields.items()}
    return st.builds(model, **fields)


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    arguments = get_args(annotation)
    match get_origin(annotation), arguments:
        case origin, (item, second) if origin is tuple and second is ...:
            return st.lists(_values(item), max_size=3).map(tuple)
        case origin, _ if origin is dict:
            return json_objects
        case _ if all(isinstance(argument, str) for argument in arguments):
            return st.sampled_from(arguments)
        case _:
            return st.one_of(*map(_values, arguments))


def payloads(model: type[Payload]) -> st.SearchStrategy[Payload]:
    """Return data of one type of event."""
    if model is ExecutionSubmit:
        fields = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
        return st.dictionaries(fields, json_values, max_size=4).map(ExecutionSubmit.model_validate)
    return models(model)


def events(model: type[Payload]) -> st.SearchStrategy[Event]:
    """Return events of one type."""
    return st.builds(
        Event,
        id=names,
        source=names,
        subject=names,
        time=times,
        data=payloads(model),
        correlation_id=names,
        traceparent=traceparents,
        causation_id=st.none() | names,
        replay_id=st.none() | names,
    )


any_event = st.sampled_from(list(TYPES.values())).flatmap(events)
