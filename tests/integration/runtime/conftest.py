"""Engines for these tests alone, and an installation for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.own_engines import NAMES, OwnEngines
from tests.integration.runtime.system import System


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngines]:
    """Return engines that may be ill-treated."""
    engines = OwnEngines(tmp_path_factory.mktemp("engines"))
    try:
        engines.start(*NAMES)
        yield engines
    finally:
        engines.stop(*NAMES)


@pytest.fixture
def engines(started: OwnEngines) -> Iterator[OwnEngines]:
    """Return engines that a test may stop; they all run again when it ends."""
    yield started
    started.start(*NAMES)


@pytest.fixture
def system(started: OwnEngines, tmp_path: Path) -> System:
    """Return an installation without anything in its database."""
    return System(started, tmp_path)
