"""What this machine is missing, each with its remedy, before anybody waits for a build to fail."""

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence

from tests.engines import catalogue
from tests.engines.engine import EngineError

EXTRA = 'install the extra "cluster" of this project'
"""How to get the Python clients of the engines."""

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps programs for administrators, out of the sight of ordinary users."""


def lacks(names: Sequence[str]) -> list[str]:
    """Return what is missing for these engines and all that they need, each line once."""
    lines: dict[str, None] = {}
    for name in names:
        try:
            for engine in catalogue.with_needs([name]):
                lines |= dict.fromkeys(engine.lacks())
        except EngineError as error:
            lines[str(error)] = None
    return list(lines)


def refuse(missing: Sequence[str]) -> None:
    """Go on only where nothing is missing.

    Raises:
        EngineError: Something is; all of it, a line each.
    """
    if missing:
        raise EngineError(listed(missing))


def listed(missing: Sequence[str]) -> str:
    """Return what is missing as a person reads it."""
    return "\n".join(["missing on this machine:", *(f"  - {line}" for line in missing)])


def program(name: str) -> str | None:
    """Return the path of a program, looked for where administrators' programs are as well."""
    return shutil.which(name, path=search_path())


def search_path() -> str:
    """Return PATH with the folders of administrators' programs behind it."""
    given = os.environ.get("PATH", os.defpath)  # noqa: TID251 - where programs are
    return os.pathsep.join((given, *_SBIN))


def missing_programs(remedies: Mapping[str, str]) -> list[str]:
    """Return a line for each of these programs that is not there: name -> how to get it."""
    return [f"{name} ({remedy})" for name, remedy in remedies.items() if program(name) is None]


def missing_modules(remedies: Mapping[str, str]) -> list[str]:
    """Return a line for each of these Python modules that is not there: name -> how to get it."""
    return [
        f"the Python module {name} ({remedy})"
        for name, remedy in remedies.items()
        if importlib.util.find_spec(name) is None
    ]
