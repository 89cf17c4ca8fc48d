"""Starting, using and stopping several engines, each after those that it needs."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from tests.engines import catalogue, paths, process
from tests.engines.build_cache import locked
from tests.engines.engine import Engine, EngineError, say

_GIVEN_BY = {
    "kafka": "INTEGR8S_KAFKA_SERVERS",
    "mongo": "INTEGR8S_MONGO_URL",
    "redis": "INTEGR8S_REDIS_URL",
    "kubernetes": "KUBECONFIG",
}
"""The setting by which the user of a task names an engine that is there already."""


def given_by(engine: Engine) -> str | None:
    """Return the setting that names the user's own engine, or the one that this one lives in."""
    variable = _GIVEN_BY.get(engine.name)
    if variable is None:
        found = (given_by(catalogue.load(name)) for name in engine.needs)
        return next((name for name in found if name), None)
    named = os.environ.get(variable)  # noqa: TID251 - what a task was called with
    # What `env` printed earlier names ours.
    return variable if named and named != engine.environment().get(variable) else None


@contextmanager
def running(engines: Sequence[Engine]) -> Iterator[dict[str, str]]:
    """Have engines running, and stop again at the end what did not run before.

    Those that the user has elsewhere are left alone.

    Yields:
        The settings by which clients reach ours.

    Raises:
        EngineError: One does not start.
    """
    engines = [engine for engine in engines if given_by(engine) is None]
    for_us = [engine for engine in reversed(engines) if not is_running(engine)]
    try:
        start_all(engines)
        yield settings_of(engines)
    finally:
        # One without a trace was not even begun with: it may be another checkout's.
        stop_all([engine for engine in for_us if has_traces(engine)])


def start_all(engines: Sequence[Engine]) -> None:
    """Build and start engines in this order; nothing happens to those that run.

    Raises:
        EngineError: One does not start.
    """
    with _one_at_a_time():
        for engine in engines:
            engine.build()
            with _timed(engine.name, "started"):
                engine.start()


def stop_all(engines: Sequence[Engine], *, wiping: bool = False) -> int:
    """Stop engines in this order, with `wiping` also what they keep; return 1 if one failed."""

    def stop(engine: Engine) -> None:
        with _timed(engine.name, "stopped"):
            engine.stop()
        if wiping:
            wipe(engine.name)

    with _one_at_a_time():
        return each(engines, stop)


def settings_of(engines: Sequence[Engine]) -> dict[str, str]:
    """Return the settings by which clients reach those that run."""
    found: dict[str, str] = {}
    # What `env` prints is run by a shell: nothing else may be said on standard output.
    with redirect_stdout(sys.stderr):
        for engine in filter(is_running, engines):
            found |= engine.environment()
    return found


def is_running(engine: Engine) -> bool:
    """Return whether it has a process, or, where it lives in another engine, whether it answers."""
    if names := processes_of(engine):
        return any(process.running(name) for name in names)
    try:
        checked(engine)
    except EngineError:
        return False
    return True


def checked(engine: Engine) -> str:
    """Return one line about what answers.

    Raises:
        EngineError: It does not; where what it lives in does not run, it is not even asked.
    """
    for needed in map(catalogue.load, engine.needs):
        # Not even asked: the clients of one that is not installed may have to be built first.
        if not is_running(needed):
            raise EngineError(f"it lives in {needed.name}, which does not run: start that first")
    return engine.check()


def has_traces(engine: Engine) -> bool:
    """Return whether it, or what it lives in, was ever started in this state."""
    if (paths.STATE / engine.name).exists() or processes_of(engine):
        return True
    return any(map(has_traces, map(catalogue.load, engine.needs)))


def processes_of(engine: Engine) -> list[str]:
    """Return the processes that are called like the engine, or begin with its name."""
    names = process.recorded()
    return [name for name in names if name == engine.name or name.startswith(f"{engine.name}-")]


def each(engines: Sequence[Engine], act: Callable[[Engine], None]) -> int:
    """Do something with every engine, also after it failed with one; return the exit code."""
    failed = 0
    for engine in engines:
        try:
            act(engine)
        except EngineError as error:
            complain(f"{engine.name}: {error}")
            failed = 1
    return failed


def complain(sentence: str) -> None:
    """Say what went wrong where it does not end everything."""
    sys.stderr.write(f"{sentence}\n")


def wipe(name: str) -> None:
    """Delete what an engine keeps.

    Raises:
        EngineError: Something is mounted in there; deleting would reach into it.
    """
    folder = paths.STATE / name
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if inside := [mount for mount in mounts if Path(mount).is_relative_to(folder)]:
        raise EngineError(f"{name} is not wiped, {inside[0]} is still mounted: unmount it first")
    if folder.exists():
        shutil.rmtree(folder)
        say(f"{name}: wiped")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep a second start or stop of this checkout waiting."""
    with locked(paths.STATE / "run" / "command.lock"):
        yield


@contextmanager
def _timed(name: str, what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    say(f"{name}: {what} in {time.monotonic() - begun:.1f} s")
