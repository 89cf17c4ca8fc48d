"""A state and a cache for one test, so that no real engine is met."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import paths, process


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the empty state folder that is worked on; its processes end with the test."""
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    yield paths.STATE
    for name in process.recorded():
        process.stop(name, grace=2)
