"""The table of docs/cluster.md that follows from the code: what each function has to reach.

`python -m tests.manifests.access` writes it; a test fails while it is behind.
"""

from shared.events.topics import Topic
from shared.ports.cluster import Cluster
from shared.ports.event_log import EventLog
from shared.ports.functions import FunctionSpec
from shared.ports.publisher import Outboxes
from shared.ports.signals import Signals
from shared.runtime.functions import SLUGS, load
from shared.runtime.wiring.engines import needs_of
from tests.manifests.documents import ROOT

DOCUMENT = ROOT / "docs" / "cluster.md"
_BEGIN, _END = "<!-- table: access -->\n", "<!-- end of table -->"


def table() -> str:
    """Return a row for each function: topics that it reads and writes, and its other engines."""
    rows = [("function", "reads topics", "writes topics", "also reaches"), ("---",) * 4]
    rows += [_row(load(slug).spec) for slug in SLUGS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rendered(text: str) -> str:
    """Return the document with the table as the code has it now."""
    before, mark, rest = text.partition(_BEGIN)
    _, closing, after = rest.partition(_END)
    if not (mark and closing):
        raise ValueError("the marks of the table are missing")
    return before + _BEGIN + table() + _END + after


def _row(spec: FunctionSpec) -> tuple[str, str, str, str]:
    needs = needs_of(spec.needs)
    written = {payload.TOPIC for payload in spec.emits} | {Topic.DEAD_LETTERS}
    if needs & {EventLog, Outboxes}:
        # One tries again what was meant for any topic, the other publishes what a crash left.
        written = set(Topic)
    others = {"Redis": Signals in needs, "Kubernetes": Cluster in needs}
    return (
        f"`{spec.slug}`",
        _listed(set(spec.topics)),
        "all" if written == set(Topic) else _listed(written),
        ", ".join(name for name, reached in others.items() if reached) or "-",
    )


def _listed(topics: set[Topic]) -> str:
    return ", ".join(f"`{topic}`" for topic in Topic if topic in topics) or "-"


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
