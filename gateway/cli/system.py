"""The embedded system as a whole: up, down, status."""

import sys
from datetime import timedelta

from gateway.cli.client import Client
from gateway.cli.environment import data_dir, find
from gateway.cli.errors import FAILED, ApiRefusal, Failure, NotRunning
from gateway.cli.running import Running
from gateway.cli.tables import show, show_fields, show_json
from gateway.cli.values import JsonObject

NOTHING_RUNS = 3
"""Exit code of `status`, as service managers have it."""
_PATIENCE = timedelta(seconds=20)


def up(*, detach: bool, json_logs: bool) -> int:
    """Start everything; return the exit code."""
    if detach:
        return _up_detached()
    from gateway.cli.logs import log_for
    from gateway.cli.report import Log, Terminal
    from gateway.cli.serving import Life
    from gateway.cli.serving import up as serve
    from shared.domain.errors import StartupError
    from shared.runtime.settings import Settings

    try:
        settings = Settings.read()
    except StartupError as error:
        raise Failure(error.message, remedy=error.remedy) from error
    log_for(settings, json_logs=json_logs)
    terminal = Terminal(sys.stdout, sys.stderr)
    report = Log(settings.data_dir) if json_logs else terminal
    return serve(settings, Life(report=report))


def _up_detached() -> int:
    from gateway.cli.launch import LOG_FILE, detached
    from gateway.cli.report import Ready, Terminal

    folder = data_dir()
    terminal = Terminal(sys.stdout, sys.stderr)

    def tell(line: JsonObject) -> None:
        terminal.part(str(line["part"]), float(line["seconds"]))

    answer = detached(folder, tell)
    terminal.ready(Ready(**{**answer, "notes": tuple(answer["notes"])}))
    sys.stdout.write(f"  {'log':<14}{folder / LOG_FILE}\n  {'stop':<14}integr8s down\n")
    return 0


def down(*, force: bool) -> int:
    """Stop what runs on the data directory; return the exit code."""
    folder = data_dir()
    running = Running.read(folder)
    if running is None:
        sys.stdout.write(f"Nothing runs on {folder}.\n")
        return 0
    try:
        ended = running.stop(force=force, patience=_PATIENCE)
    except PermissionError as error:
        raise Failure(
            f"Process {running.pid} belongs to another user.", remedy="Stop it as that user."
        ) from error
    if not ended:
        raise Failure(
            f"Process {running.pid} did not end within {_PATIENCE.seconds} s.",
            remedy="Kill it with `integr8s down --force`; nothing that was accepted is lost.",
        )
    if force:
        # Who is killed tidies nothing up, and nobody may ever start on this directory again.
        from shared.runtime.wiring.embedded import remove_groups

        remove_groups(folder)
    sys.stdout.write(f"Stopped process {running.pid} on {folder}.\n")
    return 0


def status(*, json: bool) -> int:
    """Tell what runs and what sleeps; return the exit code."""
    try:
        place = find()
    except NotRunning as error:
        if json:
            show_json({"status": "stopped", "data_dir": str(data_dir())})
        else:
            sys.stdout.write(f"{error.message}\n  {error.remedy}\n")
        return NOTHING_RUNS
    with Client(place) as client:
        ready, is_ready = _readiness(client)
        queue = client.get("/admin/executions/queue")
        functions = client.get("/admin/scaling")["functions"]
    if json:
        told = {"url": place.url, **ready, "queue": queue, "functions": functions}
        show_json({**told, **_process()})
    else:
        _show_status(place.url, ready, queue, functions)
    return 0 if is_ready else FAILED


def _readiness(client: Client) -> tuple[JsonObject, bool]:
    try:
        return client.get("/health/ready"), True
    except ApiRefusal as refusal:
        if "checks" not in refusal.problem:
            raise
        return refusal.problem, False


def _process() -> JsonObject:
    running = Running.read(data_dir())
    if running is None:
        return {}
    return {"pid": running.pid, "version": running.version, "started_at": running.started_at}


def _show_status(
    url: str, ready: JsonObject, queue: JsonObject, functions: list[JsonObject]
) -> None:
    checks = ", ".join(f"{name} {state}" for name, state in ready["checks"].items())
    process = _process()
    fields = [("status", str(ready["status"])), ("url", url), ("engines", checks)]
    if process:
        fields.append(("process", f"{process['pid']}, since {process['started_at']}"))
    fields += [
        ("queued", str(queue["queue_depth"])),
        ("running", f"{queue['active_count']} of {queue['max_concurrent']}"),
    ]
    show_fields(fields)
    sys.stdout.write("\n")
    rows = [
        (one["slug"], "awake" if one["replicas"] else "asleep", str(one["replicas"]))
        for one in functions
    ]
    show(("function", "state", "replicas"), rows)
