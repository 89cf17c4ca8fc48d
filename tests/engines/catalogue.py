"""The engines in the order in which they are needed.

Each lives in the folder of its name, whose module `engine` has a function `engine()`. It is loaded
when it is asked for: a folder that this checkout does not have, or an engine whose Python packages
are not installed, leaves all others usable.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import cast

from tests.engines.engine import Engine, EngineError

NAMES = ("kafka", "mongo", "redis", "kubernetes", "keda", "knative", "eventing")
"""Quick ones first, so that their tests have begun while the others are still being built."""


def present() -> list[str]:
    """Return the names of the engines that this checkout has, in order."""
    return [name for name in NAMES if importlib.util.find_spec(_folder(name))]


@cache
def load(name: str) -> Engine:
    """Return one engine.

    Raises:
        EngineError: There is none of that name, or it cannot be loaded.
    """
    if name not in present():
        known = ", ".join(present())
        raise EngineError(f"there is no engine called {name!r} here: choose among {known}")
    try:
        module = importlib.import_module(f"{_folder(name)}.engine")
    except ImportError as error:
        raise EngineError(
            f"{name} cannot be loaded, {error}: install the Python packages of the tests"
        ) from error
    return cast("Engine", module.engine())


def all_loadable() -> list[Engine]:
    """Return all engines that can be loaded, each after those that it needs."""
    ordered: dict[str, Engine] = {}
    for name in present():
        try:
            _add(ordered, name)
        except EngineError:
            continue  # the doctor says why
    return list(ordered.values())


def with_needs(names: Sequence[str]) -> list[Engine]:
    """Return these engines, each after those that it needs.

    Raises:
        EngineError: There is no engine of that name, or one cannot be loaded.
    """
    ordered: dict[str, Engine] = {}
    for name in names:
        _add(ordered, name)
    return list(ordered.values())


def with_dependents(names: Sequence[str]) -> list[Engine]:
    """Return these engines, each after those that need it.

    Raises:
        EngineError: There is no engine of that name, or one cannot be loaded.
    """
    wanted = {load(name).name for name in names}
    everything = all_loadable()
    for engine in everything:  # needs come first, so one pass reaches dependents of dependents
        if wanted.intersection(engine.needs):
            wanted.add(engine.name)
    return [engine for engine in reversed(everything) if engine.name in wanted]


def _add(ordered: dict[str, Engine], name: str) -> None:
    engine = load(name)
    for need in engine.needs:
        _add(ordered, need)
    ordered.setdefault(name, engine)


def _folder(name: str) -> str:
    return f"tests.engines.{name}"
