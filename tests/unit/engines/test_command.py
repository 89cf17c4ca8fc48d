"""The command line, as far as it needs no engine."""

from pathlib import Path

import pytest

from tests.engines import catalogue
from tests.engines.__main__ import _run_program, _split, _to_stop, main
from tests.engines.lifecycle import given_by, wipe

pytestmark = pytest.mark.usefixtures("state")


def test_nothing_is_stopped_that_was_not_started_here() -> None:
    """Some engines clean up what a machine has once, under the feet of another checkout's."""
    assert _to_stop([]) == []


def test_traces_of_an_engine_are_enough(state: Path) -> None:
    """Its folder is made before anything else, so an interrupted start is cleaned up too."""
    (state / "kafka").mkdir(parents=True)

    assert [engine.name for engine in _to_stop([])] == ["kafka"]


def test_named_engine_is_stopped_in_any_case() -> None:
    """Who names it means it."""
    assert [engine.name for engine in _to_stop(["redis"])] == ["redis"]


def test_env_of_nothing_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell would run has only engines that run."""
    code = main(["env", "kafka", "mongo"])

    assert (code, capsys.readouterr().out) == (0, "")


def test_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names there are."""
    code = main(["check", "kafak"])

    assert code == 1
    assert "no engine called 'kafak' here: choose among kafka, mongo" in capsys.readouterr().err


def test_what_lives_in_another_engine_is_not_asked_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its clients would only tell of an address that nobody has."""
    code = main(["check", "keda", "eventing"])

    assert code == 1
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("kubernetes: not running: etcd,")
    assert others == [
        "keda: it lives in kubernetes, which does not run: start that first",
        "knative: it lives in kubernetes, which does not run: start that first",
        "eventing: it lives in knative, which does not run: start that first",
    ]


def test_options_may_stand_before_the_names(state: Path) -> None:
    """As people write them."""
    (state / "redis").mkdir(parents=True)

    code = main(["stop", "--wipe", "redis"])

    assert code == 0
    assert not (state / "redis").exists()


def test_wipe_leaves_the_neighbours(state: Path) -> None:
    """One engine's folder is one engine's state."""
    (state / "kafka").mkdir(parents=True)
    (state / "mongo").mkdir()

    wipe("kafka")

    assert [path.name for path in state.iterdir()] == ["mongo"]


def test_needs_come_first() -> None:
    """Starting follows the list of all engines, each once."""
    engines = catalogue.with_needs(["redis", "kafka", "redis"])

    assert [engine.name for engine in engines] == ["redis", "kafka"]


def test_program_gets_what_stands_behind_the_dashes() -> None:
    """Its options are not ours, and its own -- stays with it."""
    mine, theirs = _split(["run", "kafka", "--", "pytest", "-x", "--", "tests"])

    assert (mine, theirs) == (["run", "kafka"], ["pytest", "-x", "--", "tests"])


def test_run_takes_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise engines would be started and stopped for nothing."""
    code = main(["run", "redis"])

    assert code == 1
    assert "run takes a command" in capsys.readouterr().err


def test_exit_code_is_the_programs() -> None:
    """A failed test run must fail the command that started engines for it."""
    assert _run_program(["sh", "-c", 'exit "$CODE"'], {"CODE": "7"}) == 7
    assert _run_program(["sh", "-c", "kill -TERM $$"], {}) == 143


@pytest.mark.parametrize(
    ("engine", "variable", "value"),
    [
        ("kafka", "INTEGR8S_KAFKA_SERVERS", "kafka.example:9092"),
        ("mongo", "INTEGR8S_MONGO_URL", "mongodb://mongo.example"),
        ("redis", "INTEGR8S_REDIS_URL", "redis://redis.example"),
        ("keda", "KUBECONFIG", "/etc/kubernetes/config"),
    ],
)
def test_an_engine_of_the_user_is_used_instead(
    engine: str,
    variable: str,
    value: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is started, and the command sees what its user has set."""
    monkeypatch.setenv(variable, value)

    code = main(["run", engine, "--", "printenv", variable])

    out = capfd.readouterr().out
    assert code == 0
    assert f"{engine}: yours, by {variable}" in out
    assert value in out.splitlines()
    assert "started" not in out


@pytest.mark.parametrize("name", ["kafka", "mongo", "kubernetes"])
def test_what_env_printed_is_no_engine_of_the_user(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell may still have it from yesterday."""
    engine = catalogue.load(name)
    for variable, value in engine.environment().items():
        monkeypatch.setenv(variable, value)

    assert given_by(engine) is None
