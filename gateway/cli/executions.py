"""One's executions: the list, one of them, its output, its end."""

import sys
from datetime import datetime
from urllib.parse import quote

from gateway.cli.client import Client
from gateway.cli.environment import find
from gateway.cli.follow import bytes_of
from gateway.cli.tables import show as show_table
from gateway.cli.tables import show_fields, show_json
from gateway.cli.values import JsonObject
from gateway.cli.verdict import seconds, sentence_of

_TERMINAL = frozenset({"completed", "failed", "timeout", "cancelled", "error"})


def show_list(*, status: str | None, lang: str | None, limit: int, json: bool) -> int:
    """Print the list; return the exit code."""
    with Client(find()) as client:
        query = {"status": status, "lang": lang, "limit": limit}
        page = client.get("/user/executions", query)
    if json:
        show_json(page)
        return 0
    rows = [_row(one) for one in page["executions"]]
    show_table(("id", "status", "exit", "language", "created", "wall"), rows)
    left = int(page["total"]) - len(rows)
    if left > 0:
        sys.stderr.write(f"integr8s: {left} more; see --limit\n")
    return 0


def _row(one: JsonObject) -> tuple[str, ...]:
    usage = one.get("resource_usage") or {}
    wall = usage.get("execution_time_wall_seconds")
    code = one.get("exit_code")
    return (
        str(one["execution_id"]),
        str(one["status"]),
        "" if code is None or code < 0 else str(code),
        f"{one['lang']} {one['lang_version']}",
        _local(str(one["created_at"])),
        "" if wall is None else seconds(wall),
    )


def _local(instant: str) -> str:
    """Return the time of day, or the day where it is not today; both fit a narrow terminal."""
    local = datetime.fromisoformat(instant).astimezone()
    today = datetime.now(local.tzinfo).date()  # noqa: TID251 - a command has no clock to be given
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%y-%m-%d}"


def show(execution_id: str, *, json: bool) -> int:
    """Print one execution; return the exit code."""
    with Client(find()) as client:
        execution = client.get(_path(execution_id))
    if json:
        show_json(execution)
        return 0
    hidden = {"script", "stdout", "stderr", "stdout_base64", "stderr_base64"}
    fields = [
        (name, _text(value))
        for name, value in execution.items()
        if name not in hidden and value not in (None, [], False)
    ]
    show_fields(fields)
    sys.stdout.write("\n" + str(execution["script"]).rstrip("\n") + "\n")
    return 0


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return " ".join(_text(one) for one in value)
    return str(value)


def result(execution_id: str, *, json: bool) -> int:
    """Print output and end of an execution; return the exit code."""
    with Client(find()) as client:
        found = client.get(f"{_path(execution_id)}/result")
    if json:
        show_json(found)
        return 0
    _print_output(found)
    is_over = found["status"] in _TERMINAL
    sentence = sentence_of(found) if is_over else f"{found['status']}, this is its output so far"
    sys.stderr.write(f"integr8s: {sentence}\n")
    return 0


def _print_output(found: JsonObject) -> None:
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        stream.flush()
        stream.buffer.write(bytes_of(found, name))
        stream.buffer.flush()


def logs(execution_id: str, *, follow: bool, quiet: bool) -> int:
    """Print the output so far, or follow it to the end; return the exit code."""
    with Client(find()) as client:
        if follow:
            from gateway.cli.run import Manner
            from gateway.cli.run import follow as follow_execution

            return follow_execution(client, execution_id, Manner(quiet=quiet))
        _print_output(client.get(f"{_path(execution_id)}/result"))
        return 0


def cancel(execution_id: str, *, reason: str | None, json: bool) -> int:
    """Ask for the end of an execution; return the exit code."""
    body: JsonObject = {} if reason is None else {"reason": reason}
    with Client(find()) as client:
        answer = client.post(f"{_path(execution_id)}/cancel", body)
    if json:
        show_json(answer)
    else:
        sys.stdout.write(f"{answer['message']}\n")
    return 0


def _path(execution_id: str) -> str:
    return f"/executions/{quote(execution_id, safe='')}"
