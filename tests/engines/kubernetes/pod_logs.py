"""Keeps what pods say: the kubelet deletes it with each pod, and a dead one is whom one asks about.

A program beside the cluster: every second it gives the logs that are there a second name, which
stays. Nothing is copied.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.engines import paths, process

_NAME = "pod-logs"
_SECONDS = 1


def start(folder: Path) -> None:
    """Keep from now on what the kubelet puts there; what is kept of earlier clusters goes.

    Args:
        folder: The kubelet's, with ``<namespace>_<pod>_<uid>/<container>/<start>.log`` in it.
    """
    if process.running(_NAME):
        return
    shutil.rmtree(_kept(), ignore_errors=True)
    process.start(_NAME, [sys.executable, "-m", __name__, str(folder), str(_kept())])


def stop() -> None:
    """Keep no more; what is kept stays until the next start."""
    process.stop(_NAME)


def logs_in(*namespaces: str) -> list[Path]:
    """Return all that is kept of pods in these namespaces, that which was written last at the end.

    Without namespaces that of all pods.
    """
    if not namespaces:
        return sorted(_kept().glob("*/*/*.log"), key=_written)
    found = (log for one in namespaces for log in _kept().glob(f"{one}_*/*/*.log"))
    return sorted(found, key=_written)


def keep(source: Path, target: Path) -> None:
    """Give every log that is there now its second name."""
    for log in source.glob("*/*/*.log"):
        second = target / log.relative_to(source)
        with suppress(FileExistsError, FileNotFoundError):  # known already; gone in this moment
            second.parent.mkdir(parents=True, exist_ok=True)
            os.link(log, second)


def _kept() -> Path:
    return paths.STATE / "log" / "pods"


def _written(log: Path) -> float:
    with suppress(FileNotFoundError):
        return log.stat().st_mtime
    return 0


def _main(arguments: Sequence[str]) -> None:
    source, target = map(Path, arguments)
    while True:
        keep(source, target)
        time.sleep(_SECONDS)  # noqa: TID251 - a folder of folders tells nobody what is new in it


if __name__ == "__main__":
    _main(sys.argv[1:])
