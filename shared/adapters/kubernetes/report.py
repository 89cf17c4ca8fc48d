"""The last word of process 1, as it stands in the termination log and at the end of the log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.adapters.kubernetes.frames import instant, number

_CLOSING: Final = "end"


@dataclass(frozen=True, slots=True)
class Report:
    """The raw facts; what they mean is `evidence`'s to say."""

    cause: str
    """`none`, or what process 1 noted before it ended the script."""
    started: bool
    error: int
    """Why the script could not be started, as an errno; 0 where it could."""
    status: int
    """The script's wait status, as the kernel gives it."""
    started_at: datetime
    wall_seconds: float
    from_group: bool
    cpu_ns: int | None
    peak_kb: int | None
    memory_kills: int | None
    refused_forks: int | None
    tasks: int
    """How many there were when there were too many."""
    stdout_total: int
    stderr_total: int
    chunks: int


def parsed(text: str, mark: str) -> Report | None:
    """Return the report that a text is, None where it is not process 1's or not whole.

    Whoever does not know the mark is not process 1: the script may write to the termination log,
    and what it wrote stands there if the whole container was killed at once.
    """
    words = text.split()
    if not mark or words[:1] != [mark] or words[-1] != _CLOSING:
        return None
    try:
        fields = dict(word.split("=", 1) for word in words[1:-1])
        return _report(fields)
    except (KeyError, ValueError):
        return None


def _report(fields: dict[str, str]) -> Report:
    return Report(
        cause=fields["cause"],
        started=fields["started"] == "1",
        error=int(fields["error"]),
        status=int(fields["status"]),
        started_at=instant(int(fields["started_at_ns"])),
        wall_seconds=int(fields["wall_ns"]) / 1e9,
        from_group=fields["source"] == "cgroup",
        cpu_ns=number(fields["cpu_ns"]),
        peak_kb=number(fields["peak_kb"]),
        memory_kills=number(fields["memory_kills"]),
        refused_forks=number(fields["refused_forks"]),
        tasks=int(fields["tasks"]),
        stdout_total=int(fields["stdout_total"]),
        stderr_total=int(fields["stderr_total"]),
        chunks=int(fields["chunks"]),
    )
