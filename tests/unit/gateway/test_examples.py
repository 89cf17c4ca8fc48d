"""The example scripts really run here, with whatever this machine has."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from shared.domain.runtimes import LANGUAGES

EXAMPLES = Path(gateway.__file__).parent / "examples"


@pytest.mark.parametrize("name", sorted(LANGUAGES))
def test_every_language_has_its_example(name: str) -> None:
    """The registry and the folder agree."""
    assert (EXAMPLES / f"{name}.{LANGUAGES[name].extension}").is_file()


@pytest.mark.parametrize(
    ("command", "file", "newer"),
    [
        pytest.param([sys.executable], "python.py", "match: the number 42", id="python"),
        pytest.param(["bash"], "bash.sh", "transformation @k", id="bash"),
        pytest.param(["node"], "node.js", "Promise.withResolvers", id="node"),
        pytest.param(["ruby"], "ruby.rb", "Data.define", id="ruby"),
    ],
)
def test_an_example_greets_and_shows_what_is_newer(
    command: list[str], file: str, newer: str
) -> None:
    """It works on this version, and says so where the newer part does not."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on this machine")

    done = subprocess.run(
        [*command, str(EXAMPLES / file)], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.startswith("Hello from ")
    assert newer in done.stdout
    assert done.stderr == ""
