"""One installation for all tests of this tier; each leaves it at rest for the next."""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import UTC, datetime

import pytest

from tests.cluster.installation import Installation, install
from tests.engines import process
from tests.engines.kubernetes import pod_logs

_LINES = 12
"""Of each pod's log, with a failure; the whole is in the engines' state."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell with a failure what the pods said meanwhile: most of them are gone when one looks."""
    report = yield
    if report.failed:
        report.sections.append(("pods since the test began", _said_since(call.start)))
    return report


def _said_since(began: float) -> str:
    """Return the last lines of all logs written since then; each begins with its time, in UTC."""
    since = datetime.fromtimestamp(began, UTC).isoformat()
    told = []
    for log in pod_logs.logs_in():
        lines = [line for line in process.tail(log, _LINES).splitlines() if line > since]
        if lines:
            told += [f"==> {log} <==", *lines, ""]
    return "\n".join(told)


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
