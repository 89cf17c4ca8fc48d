"""Executions as clients see them, and who may see them."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import orjson

from gateway.context import Caller
from gateway.errors import invalid, not_found
from gateway.messages import spelled
from gateway.schemas import ExecutionsQuery
from gateway.services import Services
from gateway.settings import GatewaySettings
from shared.domain.errors import Refusal
from shared.domain.executions import Status
from shared.domain.identifiers import is_uuid, saga_id_of
from shared.domain.results import result_object
from shared.domain.times import rfc3339
from shared.ports.documents import Document

_NOT_WITHOUT_OUTPUT = frozenset(
    f"{name}{suffix}" for name in ("stdout", "stderr") for suffix in ("", "_truncated", "_base64")
)
_MAY_PRINT = frozenset({Status.LAUNCHING, Status.RUNNING})
try:
    _VERSION = version("integr8s")
except PackageNotFoundError:
    _VERSION = "0"


class Page(NamedTuple):
    """A part of a list that grows at its front."""

    executions: list[Document]
    total: int
    has_more: bool
    next_cursor: str | None


async def owned(services: Services, execution_id: str, caller: Caller) -> Document:
    """Return an execution that the caller may see.

    Raises:
        Refusal: It is unknown, or somebody else's: both look alike.
    """
    if not is_uuid(execution_id):
        raise not_found()
    execution = await services.ports.executions.get(execution_id)
    if execution is None:
        raise not_found()
    if execution["user_id"] == caller.user_id or caller.is_admin:
        return execution
    if services.settings.compat_foreign_403:
        raise Refusal("forbidden", "This execution belongs to somebody else.")
    raise not_found()


def execution_object(
    execution: Mapping[str, Any], *, position: int | None, wait: float | None
) -> dict[str, Any]:
    """Return an execution without its output."""
    shown = {
        name: value
        for name, value in result_object({**execution, "stdout": b"", "stderr": b""}).items()
        if name not in _NOT_WITHOUT_OUTPUT
    }
    requested_at = execution.get("cancel_requested_at")
    return {
        **shown,
        "script": execution["script"],
        "args": execution["args"],
        "timeout_seconds": execution["timeout_seconds"],
        "files": [{"name": file["name"], "size": file["size"]} for file in execution["files"]],
        "position": position,
        "estimated_wait_seconds": wait,
        "user_id": execution["user_id"],
        "saga_id": saga_id_of(execution["execution_id"]),
        "pod_name": execution.get("pod_name"),
        "cancel_requested_at": rfc3339(requested_at) if requested_at else None,
        "cancel_reason": execution.get("cancel_reason"),
    }


async def estimated_wait(
    services: Services, execution: Mapping[str, Any], position: int
) -> float | None:
    """Return what the queue's owner last estimated, scaled to the place by now.

    The queue's owner is the one who knows how long executions take and how many run at once.
    """
    found = await services.ports.events.find(
        {"execution_id": execution["execution_id"], "event_type": "execution.queued"},
        sort=[("seq", -1)],
        limit=1,
    )
    told = found[0]["data"] if found else {}
    then, wait = told.get("position"), told.get("estimated_wait_seconds")
    if not then or wait is None:
        return None
    return round(float(wait) * position / int(then), 3)


async def result_of(services: Services, execution: Document) -> dict[str, Any]:
    """Return the result object; while it runs, with the output that came so far."""
    if execution["status"] not in _MAY_PRINT:
        return result_object(execution)
    return result_object({**execution, **await _output_so_far(services, execution)})


async def stored_output(services: Services, execution: Document, name: str) -> tuple[bytes, bool]:
    """Return the bytes of one stream, and whether some were cut."""
    if execution["status"] in _MAY_PRINT:
        execution = {**execution, **await _output_so_far(services, execution)}
    return execution.get(name) or b"", bool(execution.get(f"{name}_truncated", False))


async def _output_so_far(services: Services, execution: Document) -> dict[str, Any]:
    """Return what was printed according to the history, as the stored document will have it."""
    found = await services.ports.events.find(
        {"execution_id": execution["execution_id"], "event_type": "execution.output"},
        sort=[("seq", 1)],
    )
    parts: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    cut = {"stdout": False, "stderr": False}
    for event in found:
        data = event["data"]
        part = parts[data["stream"]]
        chunk = _bytes_of(data)
        offset = data["offset"]
        part[offset : offset + len(chunk)] = chunk
        cut[data["stream"]] |= bool(data.get("truncated"))
    return {
        **{name: bytes(part) for name, part in parts.items()},
        **{f"{name}_truncated": is_cut for name, is_cut in cut.items()},
    }


def _bytes_of(data: Mapping[str, Any]) -> bytes:
    text: str = data["data"]
    return base64.b64decode(text) if data.get("encoding") == "base64" else text.encode()


def event_object(event: Mapping[str, Any], settings: GatewaySettings) -> dict[str, Any]:
    """Return a stored event as clients see it: the payload's fields stand beside the envelope's."""
    return {
        **event["data"],
        "event_id": event["event_id"],
        "event_type": spelled(event["event_type"], underscores=settings.compat_underscore_types),
        "event_version": event.get("event_version") or "1.0",
        "timestamp": event["timestamp"],
        "aggregate_id": event.get("aggregate_id"),
        "seq": event.get("seq"),
        "metadata": {
            "service_name": str(event.get("source", "")).rpartition("/")[2],
            "service_version": _VERSION,
            "user_id": event.get("user_id"),
            "environment": settings.environment,
            "correlation_id": event.get("correlation_id", ""),
            "causation_id": event.get("causation_id"),
            "replay_id": event.get("replay_id"),
        },
    }


async def page_of(services: Services, user_id: str, wanted: ExecutionsQuery) -> Page:
    """Return a page of a user's executions, newest first."""
    executions = services.ports.executions
    where = _where(user_id, wanted)
    total = await executions.count(where)
    shown_before: list[str] = []
    limit, skip = wanted.limit, wanted.skip
    if wanted.cursor is not None:
        at, shown_before = _read_cursor(wanted.cursor)
        where, skip = _until(where, at), 0
    found = await executions.find(
        where, sort=[("created_at", -1)], skip=skip, limit=limit + 1 + len(shown_before)
    )
    rest = [execution for execution in found if execution["execution_id"] not in shown_before]
    shown = rest[:limit]
    has_more = len(rest) > limit
    return Page(shown, total, has_more, _cursor(shown, shown_before) if has_more else None)


def _where(user_id: str, wanted: ExecutionsQuery) -> dict[str, Any]:
    where: dict[str, Any] = {"user_id": user_id}
    if wanted.status is not None:
        where["status"] = wanted.status.value
    if wanted.lang is not None:
        where["lang"] = wanted.lang
    bounds: dict[str, datetime] = {}
    if wanted.start_time is not None:
        bounds["$gte"] = wanted.start_time
    if wanted.end_time is not None:
        bounds["$lte"] = wanted.end_time
    if bounds:
        where["created_at"] = bounds
    return where


def _until(where: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    bounds = dict(where.get("created_at", {}))
    bounds["$lte"] = min(bounds.get("$lte", at), at)
    return {**where, "created_at": bounds}


def _cursor(shown: list[Document], shown_before: list[str]) -> str:
    """Return where a page ended: its last millisecond, and whom of it were shown.

    The store orders by time only. Among those of one millisecond any order may come, so they are
    told apart by name.
    """
    at = shown[-1]["created_at"]
    same = [one["execution_id"] for one in shown if one["created_at"] == at]
    carried = shown_before if shown[0]["created_at"] == at else []
    value = [rfc3339(at), *carried, *same]
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, list[str]]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, *ids = orjson.loads(base64.urlsafe_b64decode(padded))
        instant = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise invalid(("query", "cursor"), "is no cursor of this list") from None
    if not all(isinstance(one, str) for one in ids):
        raise invalid(("query", "cursor"), "is no cursor of this list")
    return instant, ids
