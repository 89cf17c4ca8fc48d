"""Building our C programs."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.adapters import kubernetes, sandbox
from shared.adapters.native import build
from shared.domain.errors import StartupError

pytestmark = pytest.mark.skipif(
    len(build.compilers()) < 2, reason="no C compiler (cc, gcc or clang) is installed"
)

INIT = Path(sandbox.__file__).with_name("init.c")
ENTRY = Path(kubernetes.__file__).with_name("entry.c")


@pytest.mark.parametrize("source", [INIT, ENTRY], ids=lambda source: source.stem)
def test_binary_is_built_once(source: Path, tmp_path: Path) -> None:
    """The second call finds the first one's; drafts do not stay."""
    first = build.binary(source, tmp_path)
    made = first.stat().st_ino
    again = build.binary(source, tmp_path)

    assert (again, again.stat().st_ino) == (first, made)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert first.stat().st_mode & 0o777 == 0o755


def test_binary_needs_no_library(tmp_path: Path) -> None:
    """It is run where there is nothing but itself."""
    told = subprocess.run(
        ["/usr/bin/ldd", str(build.binary(INIT, tmp_path))],
        capture_output=True,
        check=False,
        text=True,
    )

    assert "not a dynamic executable" in told.stderr + told.stdout or "static" in told.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="links with libc elsewhere")
def test_program_of_pods_is_small(tmp_path: Path) -> None:
    """It travels in each ConfigMap, beside the largest inputs that are accepted."""
    assert build.binary(ENTRY, tmp_path).stat().st_size < 64 * 1024


def test_shipped_binary_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed copy needs no compiler."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    build.binary(INIT, shipped)
    monkeypatch.setattr(build, "SHIPPED", shipped)
    monkeypatch.setattr(build, "compilers", list)
    target = tmp_path / "target"
    target.mkdir()

    assert build.binary(INIT, target).read_bytes() == next(shipped.iterdir()).read_bytes()


def test_without_a_compiler_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy names what to install; no draft stays."""
    monkeypatch.setattr(build, "compilers", list)

    with pytest.raises(StartupError, match="apt-get install gcc"):
        build.binary(INIT, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_failing_compilers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of each is told."""
    monkeypatch.setattr(build, "compilers", lambda: [("/bin/false",), ("/nowhere/cc",)])

    with pytest.raises(StartupError, match="/bin/false: exit 1; /nowhere/cc: "):
        build.binary(INIT, tmp_path)
