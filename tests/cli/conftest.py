"""Systems for the tests of the command line."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Shell


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Return a shell of a user who has nothing yet; what was started is stopped afterwards."""
    # A short path: the address of a unix socket has room for a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="i8s-"))
    shell = Shell(folder)
    yield shell
    shell.run("down", "--force")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def system() -> Iterator[Shell]:
    """Return a shell on a system that runs; shared, since a start takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="i8s-"))
    shell = Shell(folder)
    started = shell.run("up", "--detach")
    assert started.returncode == 0, started.stderr.decode()
    yield shell
    shell.run("down", "--force")
    shutil.rmtree(folder, ignore_errors=True)
