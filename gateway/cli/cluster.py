"""Commands of the cluster profile: its gateway, and what must be there before anything runs."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic

from gateway.cli.errors import FAILED, USAGE, Failure
from gateway.cli.logs import HumanLines, log_for
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.setup import Finding
from shared.runtime.logs import log_to
from shared.runtime.process import loop_factory
from shared.runtime.settings import Settings

_LOG = logging.getLogger(__name__)
_MARKS = {"made": "+", "same": "=", "changed": "~", "differs": "!"}
_SHORT = timedelta(seconds=15)
"""How long a person waits for an engine that is only just starting."""
_PAUSE_SECONDS = 3.0

Work = Callable[[Settings], Awaitable[Sequence[Finding]]]


def gateway(*, json_logs: bool) -> int:
    """Serve the HTTP front until a signal asks to stop; return the exit code."""
    from gateway.cli.cluster_front import serve

    settings = _settings()
    log_for(settings, json_logs=json_logs)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(serve(settings))
        except StartupError as error:
            raise Failure(error.message, remedy=error.remedy) from error
    return 0


def setup(*, json_logs: bool) -> int:
    """Make topics and indexes, however long the engines take to answer; return the exit code."""
    from shared.runtime.wiring.setup import apply_indexes, apply_topics

    settings = _settings()
    log_for(settings, json_logs=json_logs)
    # Process 1 of a container is not ended by a signal that it does not listen to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = [*_done(apply_topics, settings, patience=None)]
    found += _done(apply_indexes, settings, patience=None)
    return _exit_code(found)


def topics() -> int:
    """Bring the topics and the groups' first offsets in line; return the exit code."""
    from shared.runtime.wiring.setup import apply_topics

    return _apply(apply_topics)


def indexes() -> int:
    """Bring the indexes in line; return the exit code."""
    from shared.runtime.wiring.setup import apply_indexes

    return _apply(apply_indexes)


def _settings() -> Settings:
    try:
        settings = Settings.read()
    except StartupError as error:
        raise Failure(error.message, remedy=error.remedy) from error
    if not settings.enable_event_streaming:
        raise Failure(
            "This command is for the cluster profile.",
            remedy="Set INTEGR8S_ENABLE_EVENT_STREAMING=true and the addresses of the engines;"
            " one machine alone is started with `integr8s up`.",
            exit_code=USAGE,
        )
    return settings


def _apply(work: Work) -> int:
    settings = _settings()
    log_to(sys.stderr, level=settings.log_level, formatter=HumanLines())
    return _exit_code(_done(work, settings, patience=_SHORT))


def _exit_code(found: Sequence[Finding]) -> int:
    return FAILED if any(one.state == "differs" for one in found) else 0


def _done(work: Work, settings: Settings, *, patience: timedelta | None) -> Sequence[Finding]:
    """Do some of the setup and tell what came of it.

    Raises:
        Failure: An engine refused, or gave no answer for too long.
    """
    try:
        found = asyncio.run(_tried(work, settings, patience))
    except StartupError as error:
        raise Failure(error.message, remedy=error.remedy) from error
    except TemporaryError as error:
        raise Failure(
            f"{error}.", remedy="Is it up, and is its address right? Try again."
        ) from error
    except PermanentError as error:
        raise Failure(
            f"{str(error).rstrip('.')}.",
            remedy="Correct that and run it again; what was made stays as it is.",
        ) from error
    for one in found:
        _show(one)
    return found


async def _tried(work: Work, settings: Settings, patience: timedelta | None) -> Sequence[Finding]:
    """Return what some work found, tried until the engine answers; None is patience without end.

    A broker that has just started answers before it can tell who coordinates groups.
    """
    begun = monotonic()
    while True:
        try:
            return await work(settings)
        except TemporaryError as error:
            if patience is not None and monotonic() - begun >= patience.total_seconds():
                raise
            _LOG.warning("waiting: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)  # noqa: TID251 - a command has no clock to be given


def _show(one: Finding) -> None:
    sys.stdout.write(f"{_MARKS[one.state]} {one.subject}  {one.state}  {one.seen}".rstrip() + "\n")
    if one.remedy:
        sys.stdout.write(f"  -> {one.remedy}\n")
    sys.stdout.flush()
