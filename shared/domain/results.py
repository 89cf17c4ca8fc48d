"""The result object: what everybody sees of an execution, in one shape."""

import base64
from collections.abc import Mapping
from typing import Any

from shared.domain.times import rfc3339

TRUNCATION_MARK = "\n[output truncated: the rest was dropped]\n"
"""The end of a text that was cut; no part of the stored bytes."""


def text_of(value: bytes | None) -> tuple[str, str | None]:
    """Return the text view of captured bytes, and their base64 where the text is not exact."""
    if not value:
        return "", None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return value.decode(errors="replace"), base64.b64encode(value).decode()


def _stream(execution: Mapping[str, Any], name: str) -> dict[str, Any]:
    text, exact = text_of(execution.get(name))
    truncated = bool(execution.get(f"{name}_truncated", False))
    return {
        name: text + TRUNCATION_MARK if truncated else text,
        f"{name}_truncated": truncated,
        f"{name}_base64": exact,
    }


def result_object(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result object of an execution's document, also while it runs.

    Text that was cut ends with a line that says so; the stored bytes never have it.
    """
    return {
        "execution_id": execution["execution_id"],
        "status": execution["status"],
        **_stream(execution, "stdout"),
        **_stream(execution, "stderr"),
        "lang": execution["lang"],
        "lang_version": execution["lang_version"],
        "resource_usage": execution.get("resource_usage"),
        "exit_code": execution.get("exit_code"),
        "error_type": execution.get("error_type"),
        "error_code": execution.get("error_code"),
        "error_message": execution.get("error_message"),
        "priority": execution["priority"],
        "created_at": rfc3339(execution["created_at"]),
        "updated_at": rfc3339(execution["updated_at"]),
        **{
            name: rfc3339(execution[name]) if execution.get(name) else None
            for name in ("scheduled_at", "started_at", "finished_at")
        },
        "retry_of": execution.get("retry_of"),
    }
