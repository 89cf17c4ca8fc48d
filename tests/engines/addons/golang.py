"""Programs and files out of Go modules: what a go.mod pins is all that is ever fetched."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.engines.engine import EngineError

OLDEST = (1, 26)
"""What the go.mod files ask for."""

FLAGS = ("-trimpath", "-buildvcs=false")
"""Without them the result depends on where the checkout is, and on what was committed."""

_ENVIRONMENT = {
    "CGO_ENABLED": "0",  # one static file per program: an image needs nothing else
    "GOTOOLCHAIN": "local",  # an old Go says so, instead of fetching another one
    "GOWORK": "off",
}


def lacks() -> list[str]:
    """Return what is missing to build Go programs, each one line with its remedy."""
    remedy = f"install Go {'.'.join(map(str, OLDEST))} or newer"
    if not shutil.which("go"):
        return [f"go: {remedy}"]
    found = version()
    numbers = re.search(r"go(\d+)\.(\d+)", found)
    if numbers and (int(numbers[1]), int(numbers[2])) >= OLDEST:
        return []
    return [f"go: {remedy}; this is {found}"]


@cache
def version() -> str:
    """Return what the installed Go calls itself."""
    return _go(Path.cwd(), "version").strip()


def build(
    folder: Path, packages: Sequence[str], out: Path, *, values: Mapping[str, str] | None = None
) -> None:
    """Build programs into a file or, where there are several, into a folder that exists.

    Args:
        folder: Where their go.mod is.
        packages: The programs.
        out: Where they go.
        values: Variables set while linking, by their full names.

    Raises:
        EngineError: They could not be built, with what Go said.
    """
    linker = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in (values or {}).items())])
    _go(folder, "build", *FLAGS, f"-ldflags={linker}", "-o", str(out), *packages)


def module(folder: Path, path: str) -> Path:
    """Return the unpacked module of which a go.mod pins the version, fetched if need be.

    Raises:
        EngineError: It cannot be had.
    """
    answer = json.loads(_go(folder, "mod", "download", "-json", path))
    return Path(answer["Dir"])


def _go(folder: Path, *arguments: str) -> str:
    # Behind everything else: building is the one thing here that takes minutes of all processors.
    command = ["nice", "-n", "10", "go", *arguments]
    done = subprocess.run(
        [shutil.which(command[0]) or command[0], *command[1:]],
        cwd=folder,
        env=dict(os.environ) | _ENVIRONMENT,  # noqa: TID251 - go's own settings stay as they are
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EngineError(f"go {' '.join(arguments[:2])} failed in {folder}: {_said(done)}")
    return done.stdout


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stderr.strip()[-2000:] or done.stdout.strip()[-2000:]
