"""Every type of event, found by its CloudEvents type."""

from collections.abc import Mapping

from shared.events import (
    dead_letters,
    executions,
    notifications,
    pods,
    replays,
    results,
    sagas,
    scripts,
    security,
    settings,
    system,
    timers,
    users,
)
from shared.events.event import Payload

_FAMILIES = (
    executions,
    pods,
    results,
    sagas,
    timers,
    notifications,
    dead_letters,
    replays,
    users,
    settings,
    scripts,
    security,
    system,
)

TYPES: Mapping[str, type[Payload]] = {
    payload.TYPE: payload
    for family in _FAMILIES
    for payload in vars(family).values()
    if isinstance(payload, type) and issubclass(payload, Payload) and hasattr(payload, "TYPE")
}
"""CloudEvents type -> model."""
