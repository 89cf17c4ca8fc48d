"""Where engines keep things: what is built lasts between runs, what a run leaves is one folder.

Both may be moved by environment variables, the cache to share it, the state because the path of a
socket below it may not be long.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def _place(variable: str, default: Path) -> Path:
    given = os.environ.get(variable)  # noqa: TID251 - read once, here, as the settings of the engines
    return Path(given).expanduser().resolve() if given else default


CACHE = _place("INTEGR8S_ENGINES_CACHE", Path.home() / ".cache" / "integr8s" / "engines")
"""Binaries, jars, images: expensive to make, safe to delete while nothing runs."""

STATE = _place("INTEGR8S_ENGINES_STATE", ROOT / ".engines")
"""Data, logs, secrets and process records of this checkout's engines. An engine's own part is the
folder STATE/<its name>, which is what wiping deletes; beside these are STATE/log and STATE/run."""
