"""What pods say outlives them."""

import shutil
from pathlib import Path

import pytest

from tests.engines.__main__ import main
from tests.engines.kubernetes import pod_logs


@pytest.fixture
def kubelets(tmp_path: Path) -> Path:
    """Return a folder as the kubelet fills it, with the log of one pod of KEDA."""
    log = tmp_path / "pod-logs" / "keda_operator-1_uid" / "operator" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01T00:00:00.0Z stderr F began\n")
    return tmp_path / "pod-logs"


def test_what_is_said_later_is_kept_as_well(state: Path, kubelets: Path) -> None:
    """The second name is one of the same file; the pod's end takes only the first away."""
    pod_logs.keep(kubelets, state / "log" / "pods")
    pod_logs.keep(kubelets, state / "log" / "pods")
    with (kubelets / "keda_operator-1_uid" / "operator" / "0.log").open("a") as log:
        log.write("2026-01-01T00:00:01.0Z stderr F ended\n")
    shutil.rmtree(kubelets)

    [kept] = pod_logs.logs_in("keda")

    assert [line.split()[-1] for line in kept.read_text().splitlines()] == ["began", "ended"]
    assert pod_logs.logs_in() == [kept]
    assert pod_logs.logs_in("integr8s", "ked") == []


def test_logs_of_an_engine_in_the_cluster_are_those_of_its_pods(
    state: Path, kubelets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when neither it nor the cluster runs any more."""
    pod_logs.keep(kubelets, state / "log" / "pods")

    code = main(["logs", "keda"])

    told = capsys.readouterr().out
    assert (code, told.count("==>")) == (0, 1)
    assert "keda_operator-1_uid/operator/0.log <==" in told
    assert "began" in told
