"""Functions by their slug: found, loaded when first needed, and given what they need."""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from shared.events.event import Event
from shared.ports.documents import Documents
from shared.ports.event_log import Record
from shared.ports.functions import FunctionSpec

SLUGS = (
    "submit",
    "coordinate",
    "saga-step",
    "launch-pod",
    "monitor-pods",
    "persist-result",
    "relay-events",
    "fire-timers",
    "retry-dead-letters",
)

Handle = Callable[[Event, Any], Awaitable[None]]
HandleBatch = Callable[[Sequence[Event], Any], Awaitable[None]]
HandleRecord = Callable[[Record, Any], Awaitable[None]]
Run = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Function:
    """A loaded function: its spec, and the entry points that its handler has."""

    spec: FunctionSpec
    handle: Handle | None = None
    handle_batch: HandleBatch | None = None
    handle_record: HandleRecord | None = None
    run: Run | None = None
    reconcile: Run | None = None


@cache
def load(slug: str) -> Function:
    """Import a function by its slug.

    Raises:
        KeyError: There is no such function.
    """
    if slug not in SLUGS:
        raise KeyError(slug)
    folder = f"functions.{slug.replace('-', '_')}"
    spec = importlib.import_module(f"{folder}.spec").SPEC
    handler = importlib.import_module(f"{folder}.handler")
    return Function(
        spec=spec,
        handle=getattr(handler, "handle", None),
        handle_batch=getattr(handler, "handle_batch", None),
        handle_record=getattr(handler, "handle_record", None),
        run=getattr(handler, "run", None),
        reconcile=getattr(handler, "reconcile", None),
    )


def fill(
    needs: type[Any], by_type: Mapping[type[Any], Any], documents: Callable[[str], Documents]
) -> Any:
    """Return the needs of a function: Documents by the field's name, other ports by its type.

    A type that is no port is a function's own memory: each replica gets a fresh one.
    """
    fields: dict[str, Any] = {}
    for name, kind in get_type_hints(needs).items():
        if kind is Documents:
            fields[name] = documents(name)
        elif kind in by_type:
            fields[name] = by_type[kind]
        else:
            fields[name] = kind()
    return needs(**fields)
