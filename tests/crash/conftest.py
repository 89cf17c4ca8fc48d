"""The seed of each test's faults."""

import random

import pytest


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Return a generator whose seed is shown with a failure; --randomly-seed repeats it."""
    seed = random.getrandbits(32)
    print(f"{request.node.name}: the faults come from the seed {seed}")  # noqa: T201 - for the report of a failure
    return random.Random(seed)  # noqa: S311 - moments, no secrets
