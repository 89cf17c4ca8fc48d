"""Functions by their slug, and what they are given."""

import importlib
from typing import Any, NamedTuple

import pytest

from shared.ports.clock import Clock
from shared.ports.documents import Documents
from shared.runtime.functions import SLUGS, fill, load


@pytest.mark.parametrize("slug", SLUGS)
def test_every_slug_is_a_function(slug: str) -> None:
    """Its folder, its spec and its entry points agree."""
    function = load(slug)

    assert function.spec.slug == slug
    entries = {"events": function.handle or function.handle_record, "clock": function.run}
    assert entries.get(function.spec.wakes, function.run) is not None
    assert (function.reconcile is None) is (function.spec.reconcile_every is None)


def test_an_unknown_slug_is_named() -> None:
    """Nothing outside the list is imported."""
    with pytest.raises(KeyError, match="os"):
        load("os")


class Memory:
    """What a replica remembers by itself."""


class Needs(NamedTuple):
    """A function's needs."""

    executions: Documents
    clock: Clock
    memory: Memory


def test_needs_are_filled_by_type_and_collections_by_name() -> None:
    """What is no port is the replica's own, and fresh."""
    clock: Any = object()
    given: list[str] = []

    def documents(name: str) -> Any:
        given.append(name)
        return name

    first = fill(Needs, {Clock: clock}, documents)
    second = fill(Needs, {Clock: clock}, documents)

    assert given == ["executions", "executions"]
    assert first.clock is clock
    assert isinstance(first.memory, Memory)
    assert first.memory is not second.memory


@pytest.mark.parametrize("slug", SLUGS)
def test_every_need_can_be_filled(slug: str) -> None:
    """A type that is neither a port nor simple to make would fail at the first wake-up."""
    module = importlib.import_module(f"functions.{slug.replace('-', '_')}.handler")

    assert load(slug).spec.needs is module.Needs
