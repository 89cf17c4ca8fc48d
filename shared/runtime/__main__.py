"""One function in a process of its own: `python -m shared.runtime pump SLUG`, or `http SLUG`."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from shared.domain.errors import StartupError, TemporaryError
from shared.runtime.functions import SLUGS, Function, load
from shared.runtime.logs import JsonLines, log_to
from shared.runtime.ports import Ports
from shared.runtime.settings import Settings
from shared.runtime.wiring import open_embedded

_LOG = logging.getLogger("shared.runtime")
_DRAIN = timedelta(seconds=10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one function until a signal asks it to stop; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = Settings.read()
        log_to(level=settings.log_level, formatter=JsonLines())
        if chosen.mode == "pump":
            asyncio.run(pump(chosen.slug, settings))
        else:
            asyncio.run(http(chosen.slug, settings, host=chosen.host, port=chosen.port))
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
    """Run one replica of a function on the engines of this machine.

    Raises:
        StartupError: An engine cannot be started here.
    """
    from shared.runtime.replica import Replica  # noqa: PLC0415 - the other mode needs none

    leaving = _leaving()
    engines = await open_embedded(settings)
    try:
        replica = Replica(slug, engines.ports)
        _LOG.info("%s consumes its topics", slug, extra={"function": slug})
        await leaving.wait()
        await replica.stop()
    finally:
        await engines.close()


async def http(slug: str, settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serve one function over HTTP on the engines of this machine.

    Raises:
        StartupError: The port is taken, or an engine cannot be started here.
    """
    from shared.runtime.http import Server, create_app, listen  # noqa: PLC0415 - see above

    leaving = _leaving()
    opened = listen(host or settings.host, settings.port if port is None else port)
    engines = await open_embedded(settings)
    try:
        function: Function = load(slug)
        ports = engines.ports
        needs = ports.fill(function.spec.needs)

        async def readiness() -> Mapping[str, str]:
            return await readiness_of(ports)

        app = create_app(function, needs, clock=ports.clock, readiness=readiness)
        server = Server(app, drain=_DRAIN)
        serving = asyncio.create_task(server.run_on(opened))
        waiting = asyncio.create_task(leaving.wait())
        # The socket listens already: whoever connects from now on is answered.
        address = "{}:{}".format(*opened.getsockname()[:2])
        _LOG.info("%s takes events at %s", slug, address, extra={"function": slug})
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.stop()
        await serving
    finally:
        await engines.close()


async def readiness_of(ports: Ports) -> Mapping[str, str]:
    """Return whether documents and signals answer: ok, degraded or down."""
    checks = {"documents": "ok", "signals": "ok"}
    try:
        await ports.documents("executions").get("ready?")
    except TemporaryError:
        checks["documents"] = "down"
    try:
        await ports.signals.ping()
    except TemporaryError:
        checks["signals"] = "degraded"
    return checks


def _leaving() -> asyncio.Event:
    """Return what is set when the process is asked to stop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


if __name__ == "__main__":
    sys.exit(main())
