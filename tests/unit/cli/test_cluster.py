"""Commands of the cluster profile, as functions: what they end with, and what they refuse."""

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from gateway import __main__ as machine
from gateway.cli import cluster
from gateway.cli.commands import app
from gateway.cli.errors import FAILED, USAGE, Failure
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.setup import Finding
from shared.runtime.settings import Settings

SETTINGS = Settings(enable_event_streaming=True)
SHORT = timedelta(seconds=5)


class Work:
    """Part of a setup that fails in some ways before it succeeds."""

    def __init__(self, *errors: Exception, found: Sequence[Finding] = ()) -> None:
        self._errors, self._found = list(errors), found
        self.tries = 0

    async def __call__(self, settings: Settings) -> Sequence[Finding]:
        """Try."""
        assert settings is SETTINGS
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return self._found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PAUSE_SECONDS", 0)


def test_what_was_found_is_told_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, and one more where somebody should act."""
    found = [
        Finding("topic timers", "made", "partitions: 3"),
        Finding("topic pod_events", "same"),
        Finding("index users.email_1", "differs", "has other options", "Drop it."),
    ]

    done = cluster._done(Work(found=found), SETTINGS, patience=SHORT)

    assert capsys.readouterr().out.splitlines() == [
        "+ topic timers  made  partitions: 3",
        "= topic pod_events  same",
        "! index users.email_1  differs  has other options",
        "  -> Drop it.",
    ]
    assert cluster._exit_code(done) == FAILED
    assert cluster._exit_code(found[:2]) == 0


def test_an_engine_that_is_just_starting_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """A broker answers before it knows who coordinates groups."""
    work = Work(*[TemporaryError("CoordinatorNotAvailable")] * 3)

    cluster._done(work, SETTINGS, patience=SHORT)

    assert work.tries == 4
    assert caplog.messages == ["waiting: CoordinatorNotAvailable"] * 3


def test_a_person_is_not_kept_waiting_for_ever() -> None:
    """The reason, and what to look at."""
    work = Work(*[TemporaryError("no answer from Kafka at kafka:9092")] * 3)

    with pytest.raises(Failure, match="no answer from Kafka at kafka:9092") as failed:
        cluster._done(work, SETTINGS, patience=timedelta(0))

    assert work.tries == 1
    assert "address" in failed.value.remedy
    assert failed.value.exit_code == FAILED


def test_a_job_waits_as_long_as_it_takes() -> None:
    """Its own deadline is Kubernetes' business."""
    work = Work(*[TemporaryError("no answer")] * 50)

    cluster._done(work, SETTINGS, patience=None)

    assert work.tries == 51


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("Kafka did not make timers: only 1 broker."),
        StartupError("MongoDB does not serve this process.", remedy="Correct the password."),
    ],
    ids=["refused", "turned away"],
)
def test_a_refusal_is_not_tried_again(error: Exception) -> None:
    """One sentence and the remedy, at once, for people and jobs alike."""
    work = Work(error)

    with pytest.raises(Failure) as failed:
        cluster._done(work, SETTINGS, patience=None)

    assert work.tries == 1
    assert failed.value.message.endswith(("1 broker.", "this process."))
    assert failed.value.remedy


@pytest.mark.parametrize(
    "command",
    [
        lambda: cluster.gateway(json_logs=True),
        lambda: cluster.setup(json_logs=True),
        cluster.topics,
        cluster.indexes,
    ],
    ids=["gateway", "setup", "topics", "indexes"],
)
def test_one_machine_has_no_such_command(
    command: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was called wrongly; the sentence says what is missing, and what does it there."""
    monkeypatch.delenv("INTEGR8S_ENABLE_EVENT_STREAMING", raising=False)

    with pytest.raises(Failure, match="cluster profile") as failed:
        command()

    assert failed.value.exit_code == USAGE
    assert "INTEGR8S_ENABLE_EVENT_STREAMING=true" in failed.value.remedy
    assert "integr8s up" in failed.value.remedy


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gateway"], "serve the HTTP front"),
        (["setup"], "make topics and indexes"),
        (["topics"], "apply"),
        (["topics", "apply"], "say what differs"),
        (["indexes", "apply"], "say what differs"),
        (["pump"], "those in Kafka"),
        (["http"], "POST a CloudEvent"),
        (["doctor"], "Exit code 1"),
    ],
    ids=" ".join,
)
def test_help_says_what_a_command_does(arguments: list[str], told: str) -> None:
    """Without starting anything."""
    ran = CliRunner().invoke(app, [*arguments, "--help"])

    assert ran.exit_code == 0
    assert told in " ".join(ran.output.split())


def _machine(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gateway", *arguments])
    return machine.main()


@pytest.mark.parametrize("arguments", [["--help"], ["gateway", "--help"], ["setup", "-h"]])
def test_an_image_tells_what_it_can_become(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs it by hand asks it first."""
    assert _machine(monkeypatch, *arguments) == 0

    told = capsys.readouterr().out
    assert all(word in told for word in ("gateway", "pump SLUG", "http SLUG", "setup"))


def test_arguments_that_nobody_reads_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that was given in vain would be looked for long."""
    assert _machine(monkeypatch, "gateway", "--port=1") == USAGE

    assert "--port=1" in capsys.readouterr().err
