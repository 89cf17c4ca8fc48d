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
from shared.runtime.http import listen
from shared.runtime.process import leaving, spare_the_collector
from shared.runtime.serving import serve as serve_app
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
    with listen(settings.host, settings.port) as opened:
        engines = ClusterEngines.open(settings, needs_of(GatewayPorts))
        try:
            ports = ports_of(
                engines.ports, scaling=engines.scaling(settings), readiness=engines.readiness
            )
            app = create_app(ports, front)
            _LOG.info("the gateway listens at %s:%d", *opened.getsockname()[:2])
            await serve_app(
                app,
                opened,
                asked=asked,
                drain=_DRAIN,
                preparing=_prepare(engines, ports, front, asked),
                before_the_end=lambda: drain(app),
            )
        finally:
            await engines.close()


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
            spare_the_collector()
            _LOG.info("the gateway is ready")
            break


async def _make_admin(ports: GatewayPorts, front: GatewaySettings) -> None:
    if front.admin_password is None:
        if await ports.users.count({"role": "admin"}, limit=1):
            return
        raise StartupError(
            "There is no administrator yet, and INTEGR8S_ADMIN_PASSWORD is not set.",
            remedy="Put a password for the first start into the Secret `integr8s`.",
        )
    await bootstrap_admin(ports, front)
