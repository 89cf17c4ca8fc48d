"""The table that a person reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure

_COLOURS = {"aim": "green", "must": "yellow", "missed": "red", None: "dim"}


def show(figures: Sequence[Figure], report: Mapping[str, Any], console: Console) -> None:
    """Print what was measured, and on what."""
    machine = report["machine"]
    console.print(
        f"{machine['cores']} cores, {machine['cpu'] or machine['architecture']}, "
        f"Python {machine['python']}, {machine['bubblewrap']}, load {report['load_before'][0]} "
        f"before and {report['load_after'][0]} after, revision {machine['revision'][:12]}"
    )
    table = Table(title="beside the floor of the same run")
    for name in ("figure", "measured", "must", "aim", "verdict", "from"):
        table.add_column(name, justify="right" if name in ("measured", "must", "aim") else "left")
    for figure in figures:
        colour = _COLOURS[figure.verdict]
        table.add_row(
            figure.name,
            f"{figure.value:.4g} {figure.unit}",
            "" if figure.must is None else f"{figure.must:g}",
            "" if figure.aim is None else f"{figure.aim:g}",
            f"[{colour}]{figure.verdict or 'for information'}[/]",
            figure.shown,
        )
    console.print(table)
