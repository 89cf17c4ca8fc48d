"""What the figures were measured on, and with."""

import os
import platform
import shutil
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.server import ROOT

_PACKAGES = ("integr8s", "uvicorn", "uvloop", "httptools", "starlette", "pydantic", "redis")


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def describe() -> dict[str, Any]:
    """Return the machine, the programs and the revision."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "bubblewrap": _said("bwrap", "--version"),
        "redis_server": _said("redis-server", "--version"),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _version(name) for name in _PACKAGES},
        "revision": _said("git", "rev-parse", "HEAD"),
        "changed_files": len(_said("git", "status", "--porcelain").splitlines()),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Processor"):
            return value.strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _said(program: str, *arguments: str) -> str:
    found = shutil.which(program)
    if found is None:
        return ""
    done = subprocess.run(
        [found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip()
