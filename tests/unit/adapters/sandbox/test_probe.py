"""How the answers of the start-up probe are judged."""

import pytest

from shared.adapters.sandbox import probe
from shared.adapters.sandbox.probe import CHECKS, Finding, Layer
from shared.domain.errors import StartupError

GOOD = "".join(f"ok {check} as it must be\n" for check in CHECKS).encode()


def test_good_answers_are_accepted() -> None:
    """Every check, each answered well."""
    probe.judge(probe.findings_of(GOOD))


@pytest.mark.parametrize("check", CHECKS)
def test_each_bad_answer_stops_the_process(check: str) -> None:
    """The sentence names the check and what was seen; the remedy is a sentence, too."""
    answers = GOOD.replace(b"ok %s " % check.encode(), b"bad %s " % check.encode())

    with pytest.raises(StartupError, match=f"`{check}` failed") as caught:
        probe.judge(probe.findings_of(answers))

    assert caught.value.remedy.endswith(".")


@pytest.mark.parametrize("check", CHECKS)
def test_each_missing_answer_stops_the_process(check: str) -> None:
    """A probe that died early is no proof."""
    lines = [line for line in GOOD.splitlines() if line.split()[1] != check.encode()]

    with pytest.raises(StartupError, match=f"`{check}` failed \\(no answer\\)"):
        probe.judge(probe.findings_of(b"\n".join(lines)))


def test_waived_checks_may_fail() -> None:
    """Only those of the layer that was left out."""
    findings = [*probe.findings_of(GOOD), Finding("owner", good=False, seen="0")]

    probe.judge(findings, without=[Layer.UID])
    with pytest.raises(StartupError):
        probe.judge(findings, without=[Layer.FILTER])


@pytest.mark.parametrize(
    ("uid", "statuses", "good"),
    [
        pytest.param(70_000, ["Uid:\t70000\t70000\nGid:\t70000\t70000\n"], True, id="dropped"),
        pytest.param(70_000, ["Uid:\t0\t0\nGid:\t70000\t70000\n"], False, id="uid-kept"),
        pytest.param(70_000, ["Uid:\t70000\t70000\nGid:\t0\t0\n"], False, id="gid-kept"),
        pytest.param(None, ["Uid:\t1001\t1001\nGid:\t1001\t1001\n"], True, id="ordinary-user"),
        pytest.param(70_000, [], False, id="nobody-seen"),
    ],
)
def test_owner_is_seen_from_outside(uid: int | None, statuses: list[str], good: bool) -> None:  # noqa: FBT001
    """Inside, every uid looks alike."""
    assert probe.owner_finding(statuses, uid).good is good


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("bwrap: No permissions to creating new namespace, ...", "user.max_user_namespaces"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths"),
        ("bwrap: Unknown option --disable-userns", "0.8"),
        ("bwrap: something else", "Kubernetes"),
    ],
)
def test_refusals_of_the_kernel_have_a_remedy(words: str, remedy: str) -> None:
    """Bubblewrap's own words, and what to do about them."""
    error = probe.refused(words)

    assert words in error.message
    assert remedy in error.remedy
