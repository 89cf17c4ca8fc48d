"""What a valid request is."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.submit import rules
from shared.domain.errors import Refusal
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.runtimes import Offer
from tests import builders
from tests.strategies import json_values

FIELDS = (
    "script",
    "lang",
    "lang_version",
    "args",
    "stdin",
    "stdin_base64",
    "files",
    "timeout_seconds",
    "priority",
)
_files = st.lists(
    st.dictionaries(st.sampled_from(["name", "content", "content_base64"]), json_values, max_size=3)
)
_plausible = st.fixed_dictionaries(
    {"script": st.text(max_size=20)},
    optional={
        "lang": st.sampled_from(["python", "go", "cobol"]),
        "lang_version": st.sampled_from(["3.11", "3.99", "1.22"]),
        "args": st.lists(st.text(max_size=5) | json_values, max_size=3),
        "files": _files,
        "timeout_seconds": st.integers() | json_values,
        "priority": st.sampled_from(["low", "critical", "urgent"]),
    },
)
bodies: st.SearchStrategy[dict[str, Any]] = _plausible | st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=5), json_values | _files, max_size=6
)


def refusal(**fields: Any) -> Refusal:
    """Return the refusal of a body."""
    with pytest.raises(Refusal) as refused:
        builders.order(**fields)
    return refused.value


@given(body=bodies, may=st.booleans())
def test_any_json_object_is_an_order_or_a_refusal(body: dict[str, Any], may: bool) -> None:  # noqa: FBT001
    """Whatever JSON can say ends in one of two ways, never in an error of ours."""
    settings = ExecutionSettings()

    with suppress(Refusal):
        wanted = rules.order(body, offer=Offer(), settings=settings, may_raise_priority=may)
        assert 1 <= wanted.timeout_seconds <= settings.max_timeout_seconds


@given(body=st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_fingerprint_does_not_depend_on_the_order_of_fields(body: dict[str, Any]) -> None:
    """The same request written in another order is the same request."""

    def dumps(value: Any) -> bytes:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    turned = dict(reversed(body.items()))

    assert rules.fingerprint(body, "/p", dumps) == rules.fingerprint(turned, "/p", dumps)
    assert rules.fingerprint(body, "/p", dumps) != rules.fingerprint(body, "/q", dumps)


@pytest.mark.parametrize(
    ("fields", "loc", "kind"),
    [
        pytest.param({"script": None}, ("script",), "missing", id="no script"),
        pytest.param({"script": 7}, ("script",), "string_type", id="number as script"),
        pytest.param({"script": "\ud800"}, ("script",), "string_unicode", id="surrogate"),
        pytest.param({"lang_version": 3.11}, ("lang_version",), "string_type", id="version"),
        pytest.param({"args": "x"}, ("args",), "list_type", id="args no list"),
        pytest.param({"args": ["x"] * 33}, ("args",), "too_long", id="too many args"),
        pytest.param({"args": ["a", "b\0"]}, ("args", 1), "string_type", id="NUL"),
        pytest.param({"args": ["a" * 1025]}, ("args", 0), "too_long", id="long arg"),
        pytest.param({"args": ["é" * 1000] * 5}, ("args",), "too_long", id="args in bytes"),
        pytest.param({"stdin": "a", "stdin_base64": "YQ=="}, ("stdin",), "value_error", id="both"),
        pytest.param({"stdin_base64": "!"}, ("stdin_base64",), "base64", id="no base64"),
        pytest.param({"stdin_base64": 3}, ("stdin_base64",), "base64", id="number as base64"),
        pytest.param({"files": {}}, ("files",), "list_type", id="files no list"),
        pytest.param({"files": [{}] * 17}, ("files",), "too_long", id="too many files"),
        pytest.param({"files": ["a"]}, ("files", 0), "dict_type", id="file no object"),
        pytest.param({"files": [{"name": ".a"}]}, ("files", 0, "name"), "value_error", id="dot"),
        pytest.param({"files": [{"name": "../a"}]}, ("files", 0, "name"), "value_error", id="path"),
        pytest.param({"files": [{"name": "a"}]}, ("files", 0, "content"), "missing", id="empty"),
        pytest.param(
            {"files": [{"name": "a", "content": ""}] * 2},
            ("files", 1, "name"),
            "value_error",
            id="twice",
        ),
        pytest.param({"timeout_seconds": True}, ("timeout_seconds",), "int_type", id="boolean"),
        pytest.param({"timeout_seconds": 0}, ("timeout_seconds",), "out_of_range", id="zero"),
        pytest.param({"timeout_seconds": 301}, ("timeout_seconds",), "out_of_range", id="long"),
        pytest.param({"priority": "urgent"}, ("priority",), "enum", id="priority"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], loc: tuple[Any, ...], kind: str) -> None:
    """Each wrong field comes with its place and a stable type."""
    refused = refusal(**fields)

    assert refused.code == "validation_failed"
    assert [(error.loc, error.type) for error in refused.errors] == [(("body", *loc), kind)]


def test_all_wrong_fields_are_named_at_once() -> None:
    """One answer is enough to correct the whole request."""
    refused = refusal(script=1, timeout_seconds="x", priority="y")

    assert [error.loc[1] for error in refused.errors] == ["script", "timeout_seconds", "priority"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"lang": "cobol"}, "unsupported_language", id="language"),
        pytest.param({"lang_version": "2.7"}, "unsupported_version", id="version"),
        pytest.param({"script": "x" * 50_001}, "script_too_long", id="script"),
        pytest.param({"stdin": "x" * (256 * 1024 + 1)}, "input_too_large", id="stdin"),
        pytest.param(
            {"files": [{"name": "a", "content": "x" * (768 * 1024)}]},
            "input_too_large",
            id="all together",
        ),
        pytest.param(
            {"files": [{"name": "main.py", "content": ""}]}, "validation_failed", id="name clash"
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_own_code(fields: dict[str, Any], code: str) -> None:
    """A client can act on the code alone."""
    assert refusal(**fields).code == code


def test_limits_themselves_are_accepted() -> None:
    """A limit is the last value that is accepted, not the first that is not."""
    wanted = builders.order(
        script="x" * 50_000,
        stdin="y" * (256 * 1024),
        args=["z" * 256] * 32,
        timeout_seconds=300,
        files=[{"name": "a" * 100, "content_base64": "AP8="}],
    )

    assert wanted.files == (("a" * 100, b"\x00\xff"),)


def test_an_empty_script_is_accepted() -> None:
    """It runs, and prints nothing."""
    assert builders.order(script="").script == ""


def test_high_priorities_need_the_right() -> None:
    """Jumping the queue is for those who may."""
    with pytest.raises(Refusal, match="priority_not_allowed"):
        rules.order(
            builders.request(priority="high"),
            offer=Offer(),
            settings=ExecutionSettings(),
            may_raise_priority=False,
        )


@pytest.mark.parametrize(("lang", "expected"), [("python", 30), ("go", 60)])
def test_default_timeout_is_the_greater_of_setting_and_language(lang: str, expected: int) -> None:
    """A language that compiles first gets the time for it."""
    assert builders.order(lang=lang).timeout_seconds == expected


def test_document_has_every_effective_limit() -> None:
    """Later changes of the settings do not touch an accepted execution."""
    document = builders.execution()

    assert document["status"] == "queued"
    assert document["limits"]["memory_limit"] == "512Mi"
    assert document["limits"]["image"] == "python:3.11-slim"
    assert document["rank"] == builders.START


def test_the_image_of_the_installation_is_fixed_at_submit() -> None:
    """A cluster with a registry of its own names its images, and offers no others."""
    offer = Offer(
        {"python": ("3.12",)}, images={"python": {"3.12": "registry.example/python@sha256:0"}}
    )

    wanted = rules.order(
        builders.request(lang_version=None),
        offer=offer,
        settings=ExecutionSettings(),
        may_raise_priority=False,
    )

    assert (wanted.lang_version, wanted.image) == ("3.12", "registry.example/python@sha256:0")


def test_a_language_gets_the_memory_that_it_needs() -> None:
    """Go does not link within the usual limit."""
    document = rules.execution_document(
        builders.order(lang="go"),
        execution_id="x",
        user_id="u",
        at=builders.START,
        settings=ExecutionSettings(),
        trace={"correlation_id": "c", "traceparent": builders.TRACEPARENT},
    )

    assert document["limits"]["memory_limit"] == "768Mi"
