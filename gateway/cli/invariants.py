"""The invariants over what is stored, as findings of a doctor."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.cli.findings import Finding
from shared.runtime.evidence import Evidence
from shared.runtime.invariants import INVARIANTS, Violation

_SHOWN = 5
"""Violations of one invariant that are named."""
_UNFINISHED = frozenset({"queued", "scheduled", "launching", "running"})

Violations = Mapping[int, Sequence[Violation]]
"""By the number of the invariant; none where it holds."""


def violations_in(evidence: Evidence) -> Violations:
    """Judge every invariant that what is stored is enough for."""
    return {one.number: one.check(evidence) for one in INVARIANTS if one.read_only}


def judged(violations: Violations, *, remedy: str) -> Iterator[Finding]:
    """Yield a finding for each invariant that was judged."""
    for invariant in INVARIANTS:
        if invariant.number in violations:
            yield _finding(invariant.number, invariant.rule, violations[invariant.number], remedy)


def _finding(number: int, rule: str, found: Sequence[Violation], remedy: str) -> Finding:
    name = f"invariant {number}"
    if not found:
        return Finding(name, "ok", rule)
    seen = "; ".join(str(violation) for violation in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding(name, "fail", f"{rule} {seen}{more}", remedy)


def leftovers(
    documents: Mapping[str, Sequence[Mapping[str, object]]], *, go_on: str
) -> list[Finding]:
    """Return what waits for somebody; `go_on` says when unfinished executions do."""
    found = []
    parked = sum(one["status"] == "parked" for one in documents.get("dead_letters", ()))
    if parked:
        remedy = "Look at why they failed; they wait for an administrator."
        found.append(Finding("dead letters", "warn", f"{parked} are parked", remedy))
    executions = documents.get("executions", ())
    unfinished = sum(one["status"] in _UNFINISHED for one in executions)
    seen = f"{len(executions)}, of which {unfinished} {go_on}"
    return [*found, Finding("executions", "ok", seen)]
