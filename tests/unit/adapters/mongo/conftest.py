"""What every test of a driver that loses its server needs."""

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _dropped_sockets() -> Iterator[None]:
    """Collect the sockets that the driver drops, before a test elsewhere is blamed for them.

    One whose connecting is cancelled, as closing a client does, is closed by nobody but the
    collector of garbage, which warns of it.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
