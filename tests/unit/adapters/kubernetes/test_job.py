"""The words for process 1."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.adapters.kubernetes.job import Job, Uid, encoded, job_of
from shared.domain.errors import PermanentError
from shared.ports.cluster import Limits
from tests.unit.adapters.kubernetes.specs import pod_spec

LIMITS = Limits(processes=7, open_files=8, output_kept_bytes=9, output_drained_bytes=10)


def words(job: Job) -> list[str]:
    """Return what process 1 reads."""
    *found, last = encoded(job).decode().split("\0")
    assert last == ""
    return found


def test_words_stand_in_their_order() -> None:
    """entry.c takes each by its place."""
    job = Job(("python", "/scripts/main.py", "", "a b"), {"B": "2", "A": "1"}, 1500, LIMITS)

    assert words(job) == [
        *("integr8s-job-1", "1500", "7", "0", "8", str(10 * 1024 * 1024), "9", "10"),
        *("/dev/termination-log", "/orders/order", "", "/entry/filter", "/sys/fs/cgroup"),
        "/tmp",  # noqa: S108 - private to the pod
        *("2", "A=1", "B=2", "--", "python", "/scripts/main.py", "", "a b"),
    ]


def test_job_of_a_spec_is_its_command_and_surroundings() -> None:
    """Arguments follow the path of the script; two variables are added to the registry's."""
    spec = pod_spec(args=("$(id)", "-x"), stdin=b"", timeout=timedelta(seconds=0.4), limits=LIMITS)
    job = job_of(spec, is_filtered=True, uid=Uid.OWN)

    assert job.command == ("python", "/scripts/main.py", "$(id)", "-x")
    assert {name: job.environment[name] for name in ("EXECUTION_ID", "OUTPUT_PATH")} == {
        "EXECUTION_ID": "1",
        "OUTPUT_PATH": "/output",
    }
    assert (job.timeout_ms, job.has_stdin, job.uid, job.limits) == (400, True, Uid.OWN, LIMITS)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([("", b"")], id="empty"),
        pytest.param([(".", b"")], id="folder"),
        pytest.param([("..", b"")], id="parent"),
        pytest.param([("a/b", b"")], id="path"),
        pytest.param([("a\0b", b"")], id="nul"),
        pytest.param([("main.py", b"")], id="script"),
        pytest.param([("a", b""), ("a", b"")], id="twice"),
    ],
)
def test_name_that_leads_elsewhere_is_refused(files: list[tuple[str, bytes]]) -> None:
    """Whoever submits is told long before; this is the last look."""
    with pytest.raises(PermanentError, match="names"):
        job_of(pod_spec(files=files), is_filtered=True)


@pytest.mark.parametrize("argument", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
def test_argument_that_is_no_word_is_refused(argument: str) -> None:
    """A NUL would end the word, and with it begin another."""
    job = job_of(pod_spec(), is_filtered=True)

    with pytest.raises(PermanentError, match="Arguments"):
        encoded(replace(job, command=("python", argument)))
