"""Commands find the same place as the server, and the process that serves it."""

import os
import re
import stat
from pathlib import Path

import pytest

from gateway.cli import environment, settings_help
from gateway.cli.errors import Failure, NotRunning
from gateway.cli.running import FILE, Running, birth_of
from shared.runtime.settings import Settings


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="default"),
        pytest.param({"XDG_DATA_HOME": "/xdg"}, id="xdg"),
        pytest.param({"INTEGR8S_DATA_DIR": "/chosen"}, id="chosen"),
    ],
)
def test_commands_and_server_agree_on_the_data_directory(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    """The short way of reading the environment must not drift from the settings."""
    for name in ("XDG_DATA_HOME", "INTEGR8S_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in more.items():
        monkeypatch.setenv(name, value)

    assert environment.data_dir() == Settings.read().data_dir


def test_named_system_wins_over_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment over files."""
    monkeypatch.setenv("INTEGR8S_URL", "https://i8s.example.org/")
    monkeypatch.setenv("INTEGR8S_API_KEY", "i8s_k")

    assert environment.find() == environment.Place("https://i8s.example.org", "i8s_k")


def test_key_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    """And who can read it."""
    with pytest.raises(Failure, match=r"cli\.key"):
        environment.read_key(tmp_path)


def test_empty_directory_has_no_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with the way to get one."""
    monkeypatch.delenv("INTEGR8S_URL", raising=False)
    monkeypatch.setenv("INTEGR8S_DATA_DIR", str(tmp_path))

    with pytest.raises(NotRunning, match="integr8s up -d"):
        environment.find()


def note(**changes: str | int) -> Running:
    """Return the note of this very process, changed."""
    values: dict[str, str | int] = {
        "pid": os.getpid(),
        "born": birth_of(os.getpid()) or "",
        "url": "http://127.0.0.1:8000",
        "version": "1",
        "started_at": "2026-01-01T00:00:00Z",
        **changes,
    }
    return Running(**values)  # type: ignore[arg-type]


def test_note_of_a_living_process_is_found(tmp_path: Path) -> None:
    """And is nobody else's business to read."""
    note().write(tmp_path)

    assert Running.read(tmp_path) == note()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_recycled_number_is_told_apart(tmp_path: Path) -> None:
    """The process lives, but it is not the one that wrote the note."""
    note(born="another boot:1").write(tmp_path)

    assert Running.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"other": true}'])
def test_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    """The lock decides who may run, not this file."""
    (tmp_path / FILE).write_text(text)

    assert Running.read(tmp_path) is None


def test_note_of_somebody_else_is_not_taken_away(tmp_path: Path) -> None:
    """A process that ends late must not hide the next one."""
    note().write(tmp_path)

    Running.forget(tmp_path, pid=1)
    kept = Running.read(tmp_path)
    Running.forget(tmp_path, pid=os.getpid())

    assert kept is not None
    assert Running.read(tmp_path) is None


def test_every_setting_is_explained() -> None:
    """A field without a text would be a variable that nobody understands."""
    rows = settings_help.rows()

    names = {name for name, _, _ in rows}
    assert {"INTEGR8S_DATA_DIR", "INTEGR8S_PORT", "INTEGR8S_RATE_LIMIT_ENABLED"} <= names
    assert len(names) == len(Settings.model_fields) + 2
    assert [name for name, _, meaning in rows if not meaning] == []


@pytest.mark.parametrize(
    "variable",
    ["MONGO_URL", "REDIS_URL", "KAFKA_PASSWORD", "SECRET_KEY", "ADMIN_PASSWORD", "API_KEY"],
)
def test_a_setting_that_holds_a_secret_is_not_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address may have a password in it; that it is set is said all the same."""
    monkeypatch.setenv(f"INTEGR8S_{variable}", "redis://:open-sesame@host:1/0")

    settings_help.show()

    shown = capsys.readouterr().out
    assert "open-sesame" not in shown
    assert re.search(rf"^INTEGR8S_{variable}\b.* set to \(secret\)$", shown, re.MULTILINE)
