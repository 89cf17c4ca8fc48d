"""The command that installs everything for people, as far as it needs no engine."""

from pathlib import Path

import pytest

from tests.cluster.__main__ import main

pytestmark = pytest.mark.usefixtures("state")


@pytest.mark.parametrize("command", ["env", "remove"])
def test_without_a_cluster_it_says_how_to_get_one(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints nothing that a shell would run."""
    code = main([command])

    told = capsys.readouterr()
    assert (code, told.out) == (1, "")
    assert "no cluster runs on this machine: ./taskw cluster up" in told.err


def test_nothing_is_stopped_that_was_not_started_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Another checkout's engines go on."""
    assert main(["down"]) == 0
    assert capsys.readouterr().out == ""


def test_what_is_missing_is_named_before_anything_starts(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it at once, with the packages that bring it."""
    monkeypatch.setenv("PATH", "")

    code = main(["up"])

    told = capsys.readouterr().err.splitlines()
    assert (code, told[0]) == (1, "missing on this machine:")
    assert any("apt: etcd-server" in line for line in told[1:])
    assert not state.exists()
