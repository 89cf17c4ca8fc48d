"""Where commands find the system they talk to: by environment, else the one of this machine.

Read by hand and not through `shared.runtime.settings`: that takes a quarter of a second, which a
short script would feel. A test holds both to the same names and defaults.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.errors import USAGE, Failure, NotRunning
from gateway.cli.running import Running

KEY_FILE = "cli.key"
START_IT = "Start one with `integr8s up -d`, or name one with INTEGR8S_URL and INTEGR8S_API_KEY."


@dataclass(frozen=True, slots=True)
class Place:
    """A system and the key to it."""

    url: str
    api_key: str


def data_dir() -> Path:
    """Return the data directory of this user."""
    chosen = os.environ.get("INTEGR8S_DATA_DIR")  # noqa: TID251 - see the module's docstring
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME")  # noqa: TID251 - see the module's docstring
    return Path(base) / "integr8s" if base else Path.home() / ".local/share/integr8s"


def find() -> Place:
    """Return the system that commands talk to.

    Raises:
        NotRunning: None was named, and none runs on the data directory.
        Failure: One was named without a key to it.
    """
    url = os.environ.get("INTEGR8S_URL")  # noqa: TID251 - see the module's docstring
    if url:
        return Place(url.rstrip("/"), _key_of_environment())
    folder = data_dir()
    running = Running.read(folder)
    if running is None:
        raise NotRunning(f"No integr8s runs on {folder}.", remedy=START_IT)
    return Place(running.url, read_key(folder))


def _key_of_environment() -> str:
    key = os.environ.get("INTEGR8S_API_KEY")  # noqa: TID251 - see the module's docstring
    if not key:
        raise Failure(
            "INTEGR8S_URL is set and INTEGR8S_API_KEY is not.",
            remedy="Make a key at that server with POST /api/v1/api-keys, and set it.",
            exit_code=USAGE,
        )
    return key


def read_key(folder: Path) -> str:
    """Return the key that the system of this data directory left for its user.

    Raises:
        Failure: It is not there, or belongs to somebody else.
    """
    path = folder / KEY_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Failure(
            f"The key {path} cannot be read.",
            remedy="Run this as the user who started integr8s, or start it again.",
        ) from error


def wants_colour() -> bool:
    """Say whether a terminal may be written to in colours."""
    environ = os.environ  # noqa: TID251 - see the module's docstring
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
