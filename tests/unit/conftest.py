"""The world of the unit tests."""

from collections.abc import AsyncIterator

import pytest

from tests.builders import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Return an empty world."""
    fresh = World()
    yield fresh
    await fresh.close()
