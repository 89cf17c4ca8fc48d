"""The gateway of the cluster profile: a process of its own that runs no function but submit.

It listens before its engines answer. Until they do its readiness says which of them is missing,
and whoever asks for more is told to come back.
"""

import asyncio
import logging
from datetime import timedelta

from gateway.app import bootstrap_admin, create_app, drain
from gateway.cli.front import ports_of, settings_of
from gateway.ports import GatewayPorts
from gateway.settings import GatewaySettings
from shared.domain.errors import StartupError, TemporaryError
from shared.runtime.http import Server, listen
from shared.runtime.process import leaving, spare_the_collector
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import ClusterEngines
from shared.runtime.wiring.engines import needs_of

_LOG = logging.getLogger("gateway")
_DRAIN = timedelta(seconds=25)
"""How long open answers may take at the end; a revision is given 30 s."""


async def serve(settings: Settings) -> None:
    """Serve until a signal asks to stop.

    Raises:
        StartupError: A setting is missing or wrong, the port is taken, an engine refuses us.
    """
    asked = leaving()
    front = settings_of(settings)
    engines = ClusterEngines.open(settings, needs_of(GatewayPorts))
    try:
        ports = ports_of(
            engines.ports, scaling=engines.scaling(settings), readiness=engines.readiness
        )
        with listen(settings.host, settings.port) as opened:
            app = create_app(ports, front)
            server = Server(app, drain=_DRAIN)
            serving = asyncio.create_task(server.run_on(opened), name="server")
            preparing = asyncio.create_task(_prepare(engines, ports, front, asked))
            _LOG.info("the gateway listens at %s:%d", *opened.getsockname()[:2])
            try:
                await _until_asked(asked, serving, preparing)
                await drain(app)
            finally:
                await _ended(server, serving, preparing)
    finally:
        await engines.close()


async def _until_asked(
    asked: asyncio.Event, serving: "asyncio.Task[None]", preparing: "asyncio.Task[None]"
) -> None:
    """Return when the process is to stop.

    Raises:
        StartupError: It cannot be prepared.
    """
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({waiting, serving, preparing}, return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            preparing.result()
            await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _ended(
    server: Server, serving: "asyncio.Task[None]", preparing: "asyncio.Task[None]"
) -> None:
    preparing.cancel()
    server.stop()
    await serving


async def _prepare(
    engines: ClusterEngines, ports: GatewayPorts, front: GatewaySettings, asked: asyncio.Event
) -> None:
    """Wait for the engines, and see to it that there is an administrator.

    Raises:
        StartupError: There is none, and no password to make one with.
    """
    while await engines.wait(asked):
        try:
            await _make_admin(ports, front)
        except TemporaryError as error:
            _LOG.warning("the administrator could not be looked for: %s", error)
            await ports.clock.sleep(error.retry_after)
        else:
            break
    spare_the_collector()
    _LOG.info("the gateway is ready")


async def _make_admin(ports: GatewayPorts, front: GatewaySettings) -> None:
    if front.admin_password is None:
        if await ports.users.count({"role": "admin"}, limit=1):
            return
        raise StartupError(
            "There is no administrator yet, and INTEGR8S_ADMIN_PASSWORD is not set.",
            remedy="Put a password for the first start into the Secret `integr8s`.",
        )
    await bootstrap_admin(ports, front)
