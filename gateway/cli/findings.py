"""What a doctor finds: printed one by one, and what that amounts to as an exit code."""

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from gateway.cli.errors import FAILED
from gateway.cli.tables import show_json

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, what helps."""

    check: str
    state: State
    seen: str
    remedy: str = ""


def show(findings: Iterable[Finding], *, json: bool) -> int:
    """Print findings as they come; return the exit code."""
    found = []
    for finding in findings:
        found.append(finding)
        if not json:
            _print(finding)
    if json:
        show_json({"findings": [asdict(finding) for finding in found]})
    failures = sum(finding.state == "fail" for finding in found)
    if not json:
        warnings = sum(finding.state == "warn" for finding in found)
        verdict = "everything holds" if not failures else f"{failures} failed"
        sys.stdout.write(f"\n{verdict}, {warnings} to look at\n")
    return FAILED if failures else 0


def _print(finding: Finding) -> None:
    colours = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}
    state = finding.state.ljust(4)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):  # noqa: TID251 - of the terminal
        state = f"{colours[finding.state]}{state}\x1b[0m"
    sys.stdout.write(f"{state}  {finding.check:<16}{finding.seen}\n")
    if finding.remedy and finding.state != "ok":
        sys.stdout.write(f"{'':22}-> {finding.remedy}\n")
    sys.stdout.flush()
