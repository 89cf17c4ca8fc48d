"""What engines written in Java have in common: a runtime, jars, and how both are found."""

import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.engines import doctor
from tests.engines.engine import EngineError

_AT_LEAST = 17
"""What Kafka 4 asks for."""

_REMEDY = f"Java {_AT_LEAST} or newer (apt: openjdk-17-jdk-headless)"


def lacks(*, programs: Sequence[str]) -> list[str]:
    """Return which of these programs of a Java development kit are missing or too old."""
    missing = [f"{name}: {_REMEDY}" for name in programs if doctor.program(name) is None]
    if "java" in programs and not missing and _version() < _AT_LEAST:
        missing.append(f"java is release {_version()}: {_REMEDY}")
    return missing + doctor.missing_programs({"mvn": "apt: maven"})


def run(command: Sequence[str], *, what: str) -> None:
    """Run a program to its end.

    Raises:
        EngineError: It failed; the message ends with what it printed.
    """
    path = doctor.program(command[0])
    if path is None:
        raise EngineError(f"{what} takes {command[0]}, which is not installed")
    done = subprocess.run(
        [path, *command[1:]],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise EngineError(f"{what} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")


def copy_jars(pom: Path, folder: Path) -> None:
    """Fill a folder with the jars that a pom asks for, and all that these need.

    Raises:
        EngineError: They cannot be had.
    """
    run(
        [
            "mvn",
            *("--quiet", "--batch-mode", "--file", str(pom)),
            *("dependency:copy-dependencies", f"-DoutputDirectory={folder}"),
        ],
        what=f"getting the jars of {pom.parent.name}",
    )


@cache
def _version() -> int:
    """Return the major release of the Java runtime, 0 where it says nothing that is understood."""
    java = doctor.program("java") or "java"
    told = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)  # Java 8 called itself 1.8
    return int(found[1]) if found else 0
