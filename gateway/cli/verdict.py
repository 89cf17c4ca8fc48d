"""What an execution's result means to a shell and to a person."""

from gateway.cli.values import JsonObject

TIMED_OUT = 124
CANCELLED = 125
REFUSED = 126
PLATFORM_FAILURE = 127
"""As `timeout` and container engines have it, so that scripts around us need no table of ours."""
_NO_EXIT_CODE = -1
_OUR_OWN_NO = frozenset({"queue_expired", "queue_full", "user_queue_full", "unsupported_version"})
"""Codes of ends that were our decision, not our failure."""


def exit_code_of(result: JsonObject) -> int:
    """Return the exit code of a finished execution: the script's own wherever it has one."""
    code = result.get("exit_code")
    match result["status"]:
        case "timeout":
            return TIMED_OUT
        case "cancelled":
            return CANCELLED
        case "error":
            return REFUSED if result.get("error_code") in _OUR_OWN_NO else PLATFORM_FAILURE
        case _ if result.get("error_type") == "system_error":
            return PLATFORM_FAILURE
        case _ if isinstance(code, int) and code != _NO_EXIT_CODE:
            return code
        case _:
            return PLATFORM_FAILURE


def sentence_of(result: JsonObject) -> str:
    """Return one line: how it ended, why, and what it used."""
    parts = [_ending(result)]
    usage = result.get("resource_usage") or {}
    if (wall := usage.get("execution_time_wall_seconds")) is not None:
        parts.append(f"{seconds(wall)} wall")
    if (cpu := usage.get("cpu_time_seconds")) is not None:
        parts.append(f"{seconds(cpu)} cpu")
    if (peak := usage.get("peak_memory_kb")) is not None:
        parts.append(f"{size(peak * 1024)} memory")
    cut = [name for name in ("stdout", "stderr") if result.get(f"{name}_truncated")]
    if cut:
        parts.append(f"{' and '.join(cut)} truncated")
    return ", ".join(parts)


def _ending(result: JsonObject) -> str:
    status, code = str(result["status"]), result.get("exit_code")
    if status == "completed":
        return f"completed, exit code {code}"
    why = str(result.get("error_message") or "").rstrip(".")
    if why.lower().startswith(status):
        return why[0].lower() + why[1:]
    kind = result.get("error_code")
    named = f"{status} ({kind})" if kind and status != "timeout" else status
    return f"{named}: {why}" if why else named


def seconds(value: float) -> str:
    """Return a duration for people: milliseconds below a second."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def size(value: float) -> str:
    """Return a size for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:  # noqa: PLR2004 - the base of the units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
