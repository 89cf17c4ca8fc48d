"""The wheel works where no checkout is: what a checkout has by accident, it has by intent."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from this checkout, with the pinned build tool and no download."""
    folder = tmp_path_factory.mktemp("dist")
    run(
        uv(), "build", "--quiet", "--wheel", "--no-build-isolation", "--offline",
        "--python", sys.executable, "--out-dir", str(folder), str(ROOT),
        cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a new environment that holds the wheel, and our packages from ours.

    Dependencies are lent by a path file. Python reads no further path files in a folder that came
    by one, so the editable install beside them, and with it the checkout, stays out of sight.
    """
    environment = tmp_path_factory.mktemp("installed")
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    run(
        uv(), "pip", "install", "--quiet", "--offline", "--no-deps",
        "--python", str(python), str(wheel),
        cwd=environment,
    )  # fmt: skip
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment / "bin"


def uv() -> str:
    """Return the uv of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("uv"))


def run(*command: str, cwd: Path) -> str:
    """Return what a command printed; fail with all of it if the command does."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_wheel_holds_what_is_not_python(wheel: Path) -> None:
    """The compiled programs, the scaling rules, the examples and the type markers travel along."""
    names = set(zipfile.ZipFile(wheel).namelist())

    scaling_rules = {f"shared/runtime/_keda/{path.name}" for path in ROOT.glob("keda/*.yaml")}
    examples = {
        str(path.relative_to(ROOT)) for path in ROOT.glob("gateway/examples/*") if path.is_file()
    }
    markers = {f"{package}/py.typed" for package in ("functions", "gateway", "shared")}
    assert scaling_rules | examples | markers <= names
    programs = {name.split("/")[-1].split("-")[0] for name in names if "/_bin/" in name}
    assert programs == {"init", "entry"}


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """Import names are generic enough; tests or tools on top of them would be litter."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert tops == {"functions", "gateway", "shared", f"integr8s-{VERSION}.dist-info"}


def test_wheel_is_for_one_platform(wheel: Path) -> None:
    """It carries a program, so an installer must not take it for another machine."""
    assert "-py3-none-linux_" in wheel.name


def test_packages_come_from_the_wheel(bin_folder: Path, tmp_path: Path) -> None:
    """The other tests of this file would prove nothing if the checkout were in reach."""
    names = "functions, gateway, shared"
    program = f"import {names}; print(*(package.__file__ for package in ({names})))"

    files = run(str(bin_folder / "python"), "-c", program, cwd=tmp_path).split()

    assert len(files) == 3
    assert all(Path(file).is_relative_to(bin_folder.parent) for file in files)


def test_command_tells_its_version(bin_folder: Path, tmp_path: Path) -> None:
    """The entry point exists, imports and knows what it is."""
    assert VERSION in run(str(bin_folder / "integr8s"), "--version", cwd=tmp_path)


def test_command_tells_its_commands(bin_folder: Path, tmp_path: Path) -> None:
    """Listing the commands loads the module of each."""
    assert "doctor" in run(str(bin_folder / "integr8s"), "--help", cwd=tmp_path)


def test_programs_are_executable(bin_folder: Path) -> None:
    """An installer that dropped the mode would leave a sandbox that cannot start."""
    folder = "lib/python*/site-packages/shared/adapters/native/_bin/*"
    programs = list(bin_folder.parent.glob(folder))

    assert len(programs) == 2
    assert all(os.access(program, os.X_OK) for program in programs)
