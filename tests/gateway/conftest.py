"""A gateway for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Return a running gateway with its administrator."""
    opened = await Site().open()
    yield opened
    await opened.close()
