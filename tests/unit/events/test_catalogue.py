"""The catalogue of events: complete, and every entry of the same make."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shared.events.catalogue import TYPES
from shared.events.event import Payload
from shared.events.executions import ExecutionSubmit
from shared.events.topics import TOPICS, Topic
from tests.strategies import payloads

LISTED = {
    "execution.submit",
    "execution.requested",
    "execution.queued",
    "execution.rejected",
    "execution.scheduled",
    "execution.started",
    "execution.output",
    "execution.completed",
    "execution.failed",
    "execution.timeout",
    "execution.cancel_requested",
    "execution.cancelled",
    "pod.create",
    "pod.delete",
    "pod.created",
    "pod.scheduled",
    "pod.running",
    "pod.terminated",
    "pod.deleted",
    "result_stored",
    "result_failed",
    "saga.started",
    "saga.step_completed",
    "saga.compensating",
    "saga.completed",
    "saga.failed",
    "saga.cancelled",
    "notification.created",
    "notification.delivered",
    "notification.failed",
    "dlq.received",
    "dlq.retried",
    "dlq.parked",
    "dlq.discarded",
    "replay.requested",
    "replay.paused",
    "replay.resumed",
    "replay.cancelled",
    "replay.started",
    "replay.progressed",
    "replay.completed",
    "replay.failed",
    "timer.due",
    "user.registered",
    "user.logged_in",
    "user.logged_out",
    "user.updated",
    "user.deleted",
    "user.password_changed",
    "user.session_revoked",
    "user.key_created",
    "user.key_revoked",
    "settings.updated",
    "settings.restored",
    "settings.system_updated",
    "script.saved",
    "script.updated",
    "script.deleted",
    "security.auth_failed",
    "security.account_locked",
    "security.account_unlocked",
    "security.csrf_failed",
    "security.access_denied",
    "security.token_in_query",
    "security.rate_limited",
    "security.admin_action",
    "system.alert",
}
every_type = pytest.mark.parametrize("model", TYPES.values(), ids=TYPES)
of_any_type = st.sampled_from([model for model in TYPES.values() if model is not ExecutionSubmit])


def test_catalogue_is_what_clients_are_told() -> None:
    """No type is missing, none is there that nobody was told of."""
    assert set(TYPES) == LISTED


def test_every_model_is_found_by_its_own_type() -> None:
    """No two models share a type, or one of them could never be read."""
    assert {model.TYPE: model for model in TYPES.values()} == dict(TYPES)
    assert len(set(TYPES.values())) == len(TYPES)


def _families(payload: type[Payload] = Payload) -> set[type[Payload]]:
    return {payload}.union(*map(_families, payload.__subclasses__()))


def test_no_model_with_a_type_is_left_out() -> None:
    """A family module that the catalogue does not know would be written and never read."""
    ours = {model for model in _families() if model.__module__.startswith("shared.events.")}

    assert {model for model in ours if "TYPE" in vars(model)} == set(TYPES.values())


@every_type
def test_every_type_has_one_topic(model: type[Payload]) -> None:
    """A handler of a type on two topics would run twice."""
    assert isinstance(model.TOPIC, Topic)
    assert model.TOPIC in TOPICS


def test_no_type_travels_on_the_dead_letters() -> None:
    """What lies there are other topics' records, byte for byte."""
    assert Topic.DEAD_LETTERS not in {model.TOPIC for model in TYPES.values()}


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = (_models(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*inner)
    return set().union(*map(_models, getattr(annotation, "__args__", ())))


@every_type
def test_models_are_frozen_at_every_depth(model: type[Payload]) -> None:
    """A fact does not change after it was said."""
    assert all(each.model_config.get("frozen") for each in _models(model))


@given(data=of_any_type.flatmap(payloads))
def test_a_field_cannot_be_set(data: Payload) -> None:
    """A fact does not change after it was said."""
    name = next(iter(type(data).model_fields))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(data, name, None)


@given(data=of_any_type.flatmap(payloads), extra=st.text(min_size=20))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_unknown_fields_are_tolerated_and_never_written(data: Payload, extra: str) -> None:
    """A newer writer does not stop an older reader, who passes on only what it knows."""
    known = data.model_dump(mode="json")

    read = type(data).model_validate({**known, extra: 1})

    assert read == data
    assert read.model_dump(mode="json") == known


def test_a_submission_keeps_every_field() -> None:
    """The data of a submission is a request body: its fields are judged by `submit`, not here."""
    read = ExecutionSubmit.model_validate({"script": "print(1)", "colour": "blue"})

    assert read.model_dump() == {"script": "print(1)", "colour": "blue"}
