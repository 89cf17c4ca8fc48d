"""One function in a process of its own: `python -m shared.runtime pump SLUG`, or `http SLUG`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import timedelta

from shared.domain.errors import StartupError, TemporaryError
from shared.runtime.functions import SLUGS, Function, load
from shared.runtime.logs import JsonLines, log_to
from shared.runtime.process import leaving, loop_factory, spare_the_collector, unless
from shared.runtime.settings import Settings
from shared.runtime.wiring.engines import Engines, open_engines

_LOG = logging.getLogger("shared.runtime")
_DRAIN = timedelta(seconds=10)
_SAY_EVERY = timedelta(seconds=5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one function until a signal asks it to stop; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = Settings.read()
        log_to(level=settings.log_level, formatter=JsonLines())
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            if chosen.mode == "pump":
                runner.run(pump(chosen.slug, settings))
            else:
                runner.run(http(chosen.slug, settings, host=chosen.host, port=chosen.port))
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.runtime", description=__doc__)
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode, text in (
        ("pump", "consume the function's topics"),
        ("http", "take the function's events over HTTP"),
    ):
        one = modes.add_parser(mode, help=text, description=text)
        one.add_argument("slug", choices=SLUGS, metavar="SLUG", help=", ".join(SLUGS))
        if mode == "http":
            one.add_argument("--host", help="address to listen on [INTEGR8S_HOST]")
            one.add_argument("--port", type=int, help="port to listen on [INTEGR8S_PORT]")
    return parser


async def pump(slug: str, settings: Settings) -> None:
    """Run one replica of a function until a signal asks it to stop.

    Raises:
        StartupError: An engine cannot be used here.
    """
    from shared.runtime.health import HealthServer  # noqa: PLC0415 - the other mode needs none
    from shared.runtime.replica import Replica  # noqa: PLC0415 - see above

    asked = leaving()
    function = load(slug)
    engines = await open_engines(settings, function.spec.needs)
    health = HealthServer(engines.readiness)
    try:
        if settings.enable_event_streaming:
            port = await health.start(settings.health_port)
            _LOG.info("whether it is ready is told at port %d", port, extra={"function": slug})
        if not await _ready(engines, asked, prove=function.spec.starts_scripts):
            return
        replica = Replica(slug, engines.ports)
        spare_the_collector()
        _LOG.info("%s consumes its topics", slug, extra={"function": slug})
        await asked.wait()
        await replica.stop()
    finally:
        await health.stop()
        await engines.close()


async def _ready(engines: Engines, asked: asyncio.Event, *, prove: bool) -> bool:
    """Return whether work may begin; False if the process is asked to stop before it may.

    Raises:
        StartupError: It never may.
    """
    while await engines.wait(asked):
        try:
            return not prove or await unless(asked, engines.prove_isolation())
        except TemporaryError as error:
            _LOG.warning("the isolation of scripts could not be tested: %s", error)
            await unless(asked, engines.ports.clock.sleep(max(error.retry_after, _SAY_EVERY)))
    return False


async def http(slug: str, settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serve one function over HTTP until a signal asks to stop.

    Raises:
        StartupError: The port is taken, or an engine cannot be used here.
    """
    from shared.runtime.http import create_app, listen  # noqa: PLC0415 - see above
    from shared.runtime.serving import serve  # noqa: PLC0415 - see above

    asked = leaving()
    function: Function = load(slug)
    with listen(host or settings.host, settings.port if port is None else port) as opened:
        engines = await open_engines(settings, function.spec.needs)
        try:
            # Nothing is taken before it is proven that scripts reach nothing; all else may be away.
            if function.spec.starts_scripts and not await _ready(engines, asked, prove=True):
                return
            ports = engines.ports
            needs = ports.fill(function.spec.needs)
            app = create_app(function, needs, clock=ports.clock, readiness=engines.readiness)
            address = "{}:{}".format(*opened.getsockname()[:2])
            _LOG.info("%s takes events at %s", slug, address, extra={"function": slug})
            preparing = _ready(engines, asked, prove=False)
            await serve(app, opened, asked=asked, drain=_DRAIN, preparing=preparing)
        finally:
            await engines.close()


if __name__ == "__main__":
    sys.exit(main())
