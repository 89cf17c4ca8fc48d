"""Which interpreters are offered."""

import shutil
from pathlib import Path

import pytest

from shared.adapters.sandbox import runtimes


def fake(folder: Path, name: str) -> Path:
    """Make a program that answers as bash would: bash itself, under a home folder."""
    folder.mkdir(parents=True)
    copy = folder / name
    shutil.copy("/bin/bash", copy)
    copy.chmod(0o755)
    return copy


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix that everybody may read, in a place that a sandbox could show."""
    monkeypatch.setattr(runtimes, "_HIDDEN", ())
    prefix = tmp_path / "prefix"
    fake(prefix / "bin", "bash")
    prefix.chmod(0o755)
    return prefix


def test_nothing_in_empty_folders(tmp_path: Path) -> None:
    """No folder, no interpreter, no error."""
    assert runtimes.offered(folders=[str(tmp_path), "/nowhere"]).interpreters == {}


def test_system_programs_need_no_bind() -> None:
    """What every sandbox shows is offered as it is."""
    found = runtimes.offered(folders=["/usr/bin", "/bin"], drops_uid=True)
    ((_, version),) = [key for key in found.interpreters if key[0] == "bash"]
    bash = found.interpreters["bash", version]

    assert bash.prefix is None
    assert bash.command[0].endswith("/bash")
    assert found.versions()["bash"] == (version,)


def test_unreachable_prefix_is_refused_with_a_reason(place: Path) -> None:
    """Folders of pytest are closed to others, as homes are."""
    found = runtimes.offered(folders=[str(place / "bin")], drops_uid=True)

    assert found.interpreters == {}
    assert found.refusals
    assert "cannot be reached" in found.refusals[0]


def test_unreachable_prefix_is_shown_where_that_can_be(place: Path) -> None:
    """Root can mount it where the slot's user can walk to."""
    found = runtimes.offered(folders=[str(place / "bin")], drops_uid=True, can_mount=True)
    (interpreter,) = found.interpreters.values()

    assert (interpreter.prefix, interpreter.is_hidden) == (str(place), True)


def test_own_prefix_is_bound_by_an_ordinary_user(place: Path) -> None:
    """Who runs the scripts as himself can walk where he can walk."""
    found = runtimes.offered(folders=[str(place / "bin")], drops_uid=False)
    (interpreter,) = found.interpreters.values()

    assert (interpreter.prefix, interpreter.is_hidden) == (str(place), False)


def test_private_prefix_is_refused(place: Path) -> None:
    """What its owner has closed stays closed."""
    place.chmod(0o700)
    found = runtimes.offered(folders=[str(place / "bin")], drops_uid=True, can_mount=True)

    assert "owner alone" in found.refusals[0]


def test_place_of_the_sandbox_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter in /tmp would be hidden by the sandbox's own /tmp."""
    monkeypatch.setattr(runtimes, "_HIDDEN", (str(place.parent),))
    found = runtimes.offered(folders=[str(place / "bin")], drops_uid=False)

    assert "of its own" in found.refusals[0]


def test_scripts_of_version_managers_are_no_interpreters(tmp_path: Path) -> None:
    """A shim is a shell script that needs the manager."""
    shim = tmp_path / "python3"
    shim.write_text("#!/bin/sh\necho Python 3.11.0\n")
    shim.chmod(0o755)

    assert runtimes.offered(folders=[str(tmp_path)]).interpreters == {}


def test_first_folder_wins(place: Path) -> None:
    """The system's own interpreter before one of a manager, for the same version."""
    found = runtimes.offered(folders=["/usr/bin", str(place / "bin")], drops_uid=False)

    assert [one.prefix for key, one in found.interpreters.items() if key[0] == "bash"] == [None]


@pytest.mark.parametrize(
    ("language", "answer", "version"),
    [
        ("python", "Python 3.9.18", "3.9"),
        ("python", "Python 3.14.0a1", "3.14"),
        ("python", "Python 3.6.15", None),
        ("python", "Python 2.7.18", None),
        ("bash", "GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)", "5.2"),
        ("node", "v20.11.1", "20"),
        ("ruby", "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]", "3.1"),
        ("go", "go version go1.26.0 linux/amd64", "1.26"),
        ("go", "go version go1.22 linux/arm64", "1.22"),
    ],
)
def test_versions_are_read(language: str, answer: str, version: str | None) -> None:
    """As each interpreter says it, as the registry spells it."""
    match = runtimes.LANGUAGES[language].version.search(answer)

    assert (match and match[1]) == version
