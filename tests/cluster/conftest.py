"""One installation for all tests of this tier; each leaves it at rest for the next."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster.installation import Installation, install


@pytest.fixture(scope="session")
def installed() -> Iterator[Installation]:
    """Return a fresh installation, which stays for whoever wants to look at it afterwards."""
    installation = install(os.environ)  # noqa: TID251 - what the engines were started with
    yield installation
    installation.observer.stop()


@pytest.fixture
async def world(installed: Installation) -> AsyncIterator[Installation]:
    """Return the installation with a client of this test's own."""
    if not installed.key:
        await installed.sign_in()
    else:
        await installed.reconnect()
    yield installed
    installed.hang_up()
