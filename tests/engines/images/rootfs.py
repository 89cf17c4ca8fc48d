"""A small Debian with Python, the lowest layer of every image that runs Python."""

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.engines import doctor
from tests.engines.build_cache import built
from tests.engines.engine import EngineError
from tests.engines.images.image import Layer, write_layer

RELEASE = "bookworm"
PACKAGES = ("ca-certificates", "python3")

_NEEDLESS = (
    "dev",  # every container gets its own, and only root can unpack a layer with devices
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)
"""Folders that are emptied: more than half of the size, and nothing that a script looks at."""

_RECIPE = "1"
"""Raised when what is done below changes: this file itself is no input, because a layer takes
minutes and a better comment is not worth them."""


def lacks() -> list[str]:
    """Return what this machine is missing to build the layer."""
    return doctor.missing_programs({"debootstrap": "apt: debootstrap"})


def python_layer() -> Layer:
    """Return the layer with Python 3.11 at ``/usr/bin/python3``; built at the first call.

    Raises:
        EngineError: debootstrap failed, with what it said last.
    """
    return debian_layer(PACKAGES)


def debian_layer(packages: Sequence[str]) -> Layer:
    """Return a layer with a small Debian and some packages; built at the first call, in minutes.

    Raises:
        EngineError: debootstrap failed, with what it said last.
    """

    def make(folder: Path) -> None:
        root = folder / "root"
        _bootstrap(root, packages)
        _trim(root)
        write_layer(folder / "layer.tar", {"": root})
        shutil.rmtree(root)

    folder = built("rootfs", _inputs(packages), make)
    return Layer.of_archive(folder / "layer.tar")


def _inputs(packages: Sequence[str]) -> list[str]:
    return [_RECIPE, RELEASE, *packages, *_NEEDLESS]


def _bootstrap(root: Path, packages: Sequence[str]) -> None:
    program = doctor.program("debootstrap") or "debootstrap"
    command = [program, "--variant=minbase", f"--include={','.join(packages)}"]
    done = subprocess.run(
        [*command, RELEASE, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ) | {"PATH": doctor.search_path()},  # noqa: TID251 - a web proxy, say
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-5:])
        raise EngineError(f"debootstrap failed; it needs root and a Debian mirror:\n{said}")


def _trim(root: Path) -> None:
    for name in _NEEDLESS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True, exist_ok=True)
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            # Nobody in a sandbox becomes somebody else; su, mount and passwd would only invite.
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))
