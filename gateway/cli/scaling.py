"""Watching functions wake up and go to sleep."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gateway.cli.client import Client
from gateway.cli.environment import find
from gateway.cli.tables import show as show_table
from gateway.cli.tables import show_json, table_of
from gateway.cli.values import JsonObject

_COLUMNS = ("function", "state", "replicas", "lag", "cold start", "why")
_EVERY_SECONDS = 0.5


def show(*, watch: bool, json: bool) -> int:
    """Print the functions once, or until Ctrl-C; return the exit code."""
    with Client(find()) as client:
        if not watch:
            answer = client.get("/admin/scaling")
            if json:
                show_json(answer)
            else:
                show_table(_COLUMNS, _rows(answer))
        elif sys.stdout.isatty() and not json:
            _live(client)
        else:
            _changes(client, json=json)
    return 0


def _rows(answer: JsonObject) -> list[tuple[str, ...]]:
    return [_row(one) for one in answer["functions"]]


def _row(one: JsonObject) -> tuple[str, ...]:
    cold = one["last_cold_start_seconds"]
    lag = sum(one["lag"].values())
    return (
        str(one["slug"]),
        "awake" if one["replicas"] else "asleep",
        f"{one['replicas']}/{one['max']}",
        str(lag) if lag else "",
        "" if cold is None else f"{cold * 1000:.0f} ms",
        _sleeps_in(one) or str(one["reason"]),
    )


def _sleeps_in(one: JsonObject) -> str:
    if one["sleeps_at"] is None:
        return ""
    # The server's time, read by our clock: close enough for whole seconds.
    left = (datetime.fromisoformat(one["sleeps_at"]) - _now()).total_seconds()
    return f"sleeps in {max(0, round(left))} s"


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a command has no clock to be given


def _looks(client: Client) -> Iterator[JsonObject]:
    """Yield the state twice a second, until Ctrl-C."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        while not stop.is_set():
            yield client.get("/admin/scaling")
            stop.wait(_EVERY_SECONDS)
    finally:
        signal.signal(signal.SIGINT, before)


def _live(client: Client) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        for answer in _looks(client):
            live.update(table_of(_COLUMNS, _rows(answer)), refresh=True)  # type: ignore[arg-type]


def _changes(client: Client, *, json: bool) -> None:
    known: Mapping[str, int] = {}
    for answer in _looks(client):
        now = {str(one["slug"]): int(one["replicas"]) for one in answer["functions"]}
        for one in answer["functions"]:
            slug = str(one["slug"])
            if known.get(slug) != now[slug]:
                _tell(one, known.get(slug), json=json)
        known = now


def _tell(one: JsonObject, before: int | None, *, json: bool) -> None:
    if json:
        show_json(one)
        return
    change = f"{one['replicas']}" if before is None else f"{before} -> {one['replicas']}"
    sys.stdout.write(f"{_now():%H:%M:%S} {one['slug']} {change}: {one['reason']}\n")
    sys.stdout.flush()
