"""What `./taskw cluster` tells a person about the installation, as that person uses it."""

import asyncio
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.cluster import sign_in
from tests.cluster.installation import Installation

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_a_shell_is_told_how_to_reach_it(world: Installation) -> None:
    """Where kubectl and integr8s are and what they need; the key is the same each time."""
    told = [await asyncio.to_thread(_exports) for _ in range(2)]

    assert told[0] == told[1]
    found = told[0]
    assert found["INTEGR8S_URL"] == f"http://{world.route('gateway').headers['Host']}"
    assert await asyncio.to_thread(
        sign_in.is_known, world.route("gateway"), found["INTEGR8S_API_KEY"]
    )
    shown = await asyncio.to_thread(_kubectl, found, "get", "namespace", "integr8s", "-o", "name")
    assert shown == "namespace/integr8s\n"


def _kubectl(settings: Mapping[str, str], *words: str) -> str:
    """Return what the command prints that a shell with these settings finds."""
    program = shutil.which("kubectl", path=settings["PATH"])
    assert program is not None
    # Not by an environment of its own: without a home kubectl makes its cache where it stands.
    command = [program, "--kubeconfig", settings["KUBECONFIG"], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def _exports() -> dict[str, str]:
    """Return what the command would have a shell set."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "env"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = {}
    for line in done.stdout.splitlines():
        word, setting = shlex.split(line)
        assert word == "export"
        name, _, value = setting.partition("=")
        found[name] = value
    return found
