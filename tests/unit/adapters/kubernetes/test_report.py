"""Whose report it is, and whether all of it is there."""

import pytest

from shared.adapters.kubernetes.report import parsed

MARK = "373eb76793547c02"
TEXT = (
    f"{MARK} cause=deadline started=1 error=0 status=15 started_at_ns=1795242547837788736"
    " wall_ns=401020226 source=cgroup cpu_ns=7639000 peak_kb=7976 memory_kills=0 refused_forks=-"
    " tasks=0 stdout_total=2 stdout_kept=2 stderr_total=0 stderr_kept=0 chunks=1 end"
)


def test_report_is_read() -> None:
    """Unknown stays unknown; the rest are numbers."""
    report = parsed(TEXT, MARK)

    assert report is not None
    assert (report.cause, report.started, report.status) == ("deadline", True, 15)
    assert report.wall_seconds == 0.401020226
    assert (report.memory_kills, report.refused_forks) == (0, None)
    assert (report.stdout_total, report.chunks) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT.replace(MARK, "0" * 16), id="forged"),
        pytest.param(TEXT.removeprefix(MARK), id="unmarked"),
        pytest.param(TEXT.removesuffix(" end"), id="cut"),
        pytest.param(TEXT[:120], id="half"),
        pytest.param(TEXT.replace("status=15", "status=x"), id="garbled"),
        pytest.param(TEXT.replace("status=15 ", ""), id="incomplete"),
        pytest.param(TEXT.replace("status=15", "status"), id="wordless"),
    ],
)
def test_anything_else_is_none(text: str) -> None:
    """The script may write to the same place; only the mark makes it a report, only whole."""
    assert parsed(text, MARK) is None


def test_without_a_mark_nothing_is_a_report() -> None:
    """A pod of somebody else's making has none, and its words count for nothing."""
    assert parsed(TEXT.removeprefix(MARK), "") is None
    assert parsed(TEXT, "") is None
