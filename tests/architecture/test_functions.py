"""Knowing one function folder is knowing all of them."""

import importlib
from pathlib import Path

import pytest

from shared.ports.functions import FunctionSpec

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent.name for path in ROOT.glob("functions/*/__init__.py"))
SHARED_MANIFESTS = {"kustomization", "authentication"}
"""What belongs to all functions together."""
MANIFESTS = sorted({path.stem for path in ROOT.glob("keda/*.yaml")} - SHARED_MANIFESTS)
PARTS = {"__init__.py", "spec.py", "handler.py"}
OPTIONAL_PARTS = {"rules.py"}


def slug_of(folder: str) -> str:
    """Return the name under which the outside knows a function."""
    return folder.replace("_", "-")


def test_folders_are_found() -> None:
    """Without folders the tests below would pass by testing nothing."""
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_has_the_same_parts_as_all(folder: str) -> None:
    """One docstring, one spec, one handler and, where something is decided, rules."""
    children = {
        path.name for path in (ROOT / "functions" / folder).iterdir() if path.name != "__pycache__"
    }

    assert children - OPTIONAL_PARTS == PARTS


@pytest.mark.parametrize("folder", FOLDERS)
def test_slug_is_the_folder_with_hyphens(folder: str) -> None:
    """The slug names consumer group, manifest and metric label, and leads back to the folder."""
    spec = importlib.import_module(f"functions.{folder}.spec").SPEC

    assert isinstance(spec, FunctionSpec)
    assert spec.slug == slug_of(folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstring_says_what_the_function_waits_for(folder: str) -> None:
    """The folder's sentence is the first thing a reader sees."""
    docstring = importlib.import_module(f"functions.{folder}").__doc__

    assert docstring is not None
    assert docstring.strip()


def test_each_function_has_its_manifest_and_each_manifest_its_function() -> None:
    """A function without a manifest never scales, a manifest without a function scales nothing."""
    assert sorted(slug_of(folder) for folder in FOLDERS) == MANIFESTS
