"""Commands of the cluster profile: its gateway, and what must be there before anything runs."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence

from gateway.cli.errors import FAILED, Failure
from gateway.cli.logs import log_for
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from shared.ports.setup import Finding
from shared.runtime.process import loop_factory
from shared.runtime.settings import Settings

_LOG = logging.getLogger(__name__)
_MARKS = {"made": "+", "same": "=", "changed": "~", "differs": "!"}


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
    """Make topics and indexes, waiting for the engines; return the exit code."""
    log_for(_settings(), json_logs=json_logs)
    return max(topics(wait=True), indexes(wait=True))


def topics(*, wait: bool = False) -> int:
    """Bring the topics and the groups' first offsets in line; return the exit code."""
    from shared.runtime.wiring.setup import apply_topics

    return _apply(apply_topics, wait=wait)


def indexes(*, wait: bool = False) -> int:
    """Bring the indexes in line; return the exit code."""
    from shared.runtime.wiring.setup import apply_indexes

    return _apply(apply_indexes, wait=wait)


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
        )
    return settings


def _apply(
    work: Callable[[Settings], Awaitable[Sequence[Finding]]], *, wait: bool, pause: float = 3.0
) -> int:
    """Do some of the setup and tell what came of it; return the exit code."""
    settings = _settings()

    async def tries() -> Sequence[Finding]:
        while True:
            try:
                return await work(settings)
            except TemporaryError as error:
                if not wait:
                    raise
                _LOG.warning("waiting: %s", error)
                await asyncio.sleep(pause)  # noqa: TID251 - a command has no clock to be given

    try:
        found = asyncio.run(tries())
    except StartupError as error:
        raise Failure(error.message, remedy=error.remedy) from error
    except TemporaryError as error:
        raise Failure(
            f"{error}.", remedy="Is it up, and is its address right? Try again."
        ) from error
    except PermanentError as error:
        raise Failure(f"{error}.") from error
    for one in found:
        _show(one)
    return FAILED if any(one.state == "differs" for one in found) else 0


def _show(one: Finding) -> None:
    sys.stdout.write(f"{_MARKS[one.state]} {one.subject}  {one.state}  {one.seen}".rstrip() + "\n")
    if one.remedy:
        sys.stdout.write(f"  -> {one.remedy}\n")
