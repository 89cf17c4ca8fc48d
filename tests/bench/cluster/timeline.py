"""Where the time of an execution goes: one instant per step, in seconds since it was sent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.cluster.sightings import Sighting
from tests.bench.cluster.tail import RESULT, Seen

STEPS = (
    "execution.requested",
    "execution.queued",
    "execution.scheduled",
    "pod.created",
    "pod.scheduled",
    "pod.running",
    "execution.started",
    "execution.output",
    "execution.completed",
    RESULT,
)
"""The events on the way to a result."""


@dataclass(slots=True)
class Run:
    """One execution, by the wall clock."""

    execution_id: str
    sent_at: float
    accepted_at: float
    result_at: float
    """Its stored result was on the client's stream."""
    instants: dict[str, float] = field(default_factory=dict)
    """Name of a step -> seconds since it was sent."""

    @property
    def seconds(self) -> float:
        """Return what the client waited."""
        return self.result_at - self.sent_at

    def add(self, history: Sequence[Seen]) -> None:
        """Work out the instants that the events and the client know."""
        self.note("accepted by the gateway", self.accepted_at)
        for seen in history:
            if seen.type in STEPS and seen.type not in self.instants:
                self.note(seen.type, seen.said_at)
                self.note(f"{seen.type} in the topic", seen.seen_at)
        self.note("result on the stream", self.result_at)

    def add_pod(self, what: str, pod: Sighting) -> None:
        """Add what a watch of the API server showed of a pod."""
        for word in ("made", "bound", "running", "ready", "ended"):
            if at := getattr(pod, f"{word}_at"):
                self.note(f"{what}: {word}", at)

    def note(self, step: str, at: float) -> None:
        """Add one instant of the wall clock."""
        self.instants[step] = at - self.sent_at


def medians(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Return, per step that most runs have, when it was, and how long after the one before.

    Both are medians in milliseconds; steps are in order of time.
    """
    found: dict[str, list[float]] = {}
    for run in runs:
        for step, at in run.instants.items():
            found.setdefault(step, []).append(at)
    usual = {step: median(at) for step, at in found.items() if len(at) * 2 > len(runs)}
    ordered = sorted(usual, key=usual.__getitem__)
    return {
        step: {
            "at_ms": round(usual[step] * 1e3, 1),
            "after_ms": round(_after(runs, before, step) * 1e3, 1),
        }
        for before, step in zip(["", *ordered], ordered, strict=False)
    }


def _after(runs: Iterable[Run], before: str, step: str) -> float:
    return median(
        run.instants[step] - run.instants.get(before, 0.0) for run in runs if step in run.instants
    )


def show(title: str, steps: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """Print the medians."""
    table = Table(title=title)
    for name in ("step", "at, ms", "after the one above, ms"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step, one in steps.items():
        table.add_row(step, f"{one['at_ms']:.0f}", f"{one['after_ms']:.0f}")
    console.print(table)


def log_times(text: str) -> list[tuple[float, str]]:
    """Return time and message of each JSON line of a function's log."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            found.append((datetime.fromisoformat(told["time"]).timestamp(), told["message"]))
    return found


def run_of(execution_id: str, events: Sequence[Mapping[str, Any]]) -> Run:
    """Return the timeline that stored events tell; it begins when the request was accepted."""
    said = {
        one["event_type"]: datetime.fromisoformat(one["timestamp"]).timestamp() for one in events
    }
    begun = said["execution.requested"]
    run = Run(execution_id, begun, begun, said[RESULT])
    for step in STEPS:
        if step in said:
            run.note(step, said[step])
    return run
