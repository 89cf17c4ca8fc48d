"""What is installed is what the locks say, and our import names are ours alone."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))

PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def pins_of(lock: str) -> dict[str, str]:
    """Return name -> version of one lock."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in PIN.findall(text)}


def names_of(requirements: list[str]) -> set[str]:
    """Return the names of requirements as an index spells them."""
    return {canonicalize_name(Requirement(text).name) for text in requirements}


@pytest.mark.parametrize("name", ["functions", "gateway", "shared"])
def test_import_name_is_ours_alone(name: str) -> None:
    """The names are generic; a dependency that brought one of them would shadow a part of us."""
    providers = set(importlib.metadata.packages_distributions().get(name, []))

    assert providers <= {"integr8s"}


def test_locks_are_there() -> None:
    """Two for operators, one for developers, two for the tools before them."""
    assert LOCKS == [
        "requirements-bootstrap.lock",
        "requirements-cluster.lock",
        "requirements-compiler.lock",
        "requirements-dev.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_its_hashes(lock: str) -> None:
    """An index that serves another file under the same name is refused."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)

    entries = text.replace("\\\n", " ").splitlines()

    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address(lock: str) -> None:
    """Where packages come from is the decision of whoever installs them."""
    assert "://" not in (ROOT / lock).read_text(encoding="utf-8")


def test_every_dependency_is_pinned() -> None:
    """A dependency added without ./taskw lock would come in whatever version is new today."""
    assert names_of(PROJECT["project"]["dependencies"]) <= set(pins_of("requirements.lock"))
    assert names_of(PROJECT["dependency-groups"]["dev"]) <= set(pins_of("requirements-dev.lock"))


def test_tests_run_on_what_operators_install() -> None:
    """Both locks agree on each package that both name."""
    runtime, dev = pins_of("requirements.lock"), pins_of("requirements-dev.lock")

    assert {name: dev.get(name) for name in runtime} == runtime
