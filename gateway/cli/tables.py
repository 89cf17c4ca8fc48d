"""Answers for people: a table on a terminal, aligned columns in a pipe, JSON where asked for."""

import json
import sys
from collections.abc import Sequence

from gateway.cli.values import JsonObject

_COLOURS = {
    "completed": "green",
    "awake": "green",
    "ok": "green",
    "ready": "green",
    "warn": "yellow",
    "degraded": "yellow",
    "timeout": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "error": "red",
    "fail": "red",
    "down": "red",
    "unready": "red",
    "asleep": "dim",
}
_SENTENCES = frozenset({"why"})


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns, on standard output. Nothing is ever cut in a pipe."""
    if sys.stdout.isatty():
        _rich_table(columns, rows)
        return
    table = [[column.upper() for column in columns], *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(columns))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.flush()


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console

    Console().print(table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> object:
    """Return a rich table; the words for states have their colours."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for column in columns:
        # Sentences give way on a narrow terminal; ids and numbers stay whole.
        table.add_column(column, no_wrap=column not in _SENTENCES, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _COLOURS.get(cell, "")) for cell in row))
    return table


def show_json(value: JsonObject) -> None:
    """Print one JSON object, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, on standard output."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        sys.stdout.write(f"{name.ljust(width)}  {value}\n")
    sys.stdout.flush()
