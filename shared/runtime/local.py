"""Everything in one process: the engines of one machine, and every function from zero."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Self

from shared.domain.errors import StartupError, TemporaryError
from shared.ports.scaling import Scaling
from shared.runtime.autoscaler import Autoscaler
from shared.runtime.ports import Ports
from shared.runtime.scaling import load
from shared.runtime.settings import Settings
from shared.runtime.wiring.embedded import Embedded, open_embedded

_LOG = logging.getLogger(__name__)
_TRIM_EVERY = timedelta(hours=1)
_REDIS_AGAIN = timedelta(seconds=5)


def manifests() -> Path:
    """Return the folder of the ScaledObjects: beside the packages, or inside the wheel.

    Raises:
        StartupError: They are nowhere; the installation is broken.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "_keda", here.parents[2] / "keda"):
        if folder.is_dir():
            return folder
    raise StartupError("The scaling manifests are missing.", remedy="Install integr8s again.")


class EmbeddedSystem:
    """The embedded profile: what `integr8s up` runs beside the HTTP server."""

    def __init__(self, engines: Embedded, autoscaler: Autoscaler) -> None:
        """Take over running engines; `start` makes one."""
        self._engines = engines
        self._autoscaler = autoscaler
        self._chores = [
            asyncio.create_task(self._trim(), name="retention"),
            asyncio.create_task(self._keep_signals(), name="signals"),
        ]

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        """Start the engines, publish what a crash left behind, begin to scale from zero.

        Raises:
            StartupError: Something is missing, in use or too new; nothing was damaged.
        """
        scaled = load(manifests())
        engines = await open_embedded(settings)
        autoscaler = Autoscaler(scaled, engines.ports)
        engines.log.listen(autoscaler.poke)
        autoscaler.start()
        return cls(engines, autoscaler)

    @property
    def ports(self) -> Ports:
        """Return every port."""
        return self._engines.ports

    @property
    def scaling(self) -> Scaling:
        """Return the look at the functions' replicas."""
        return self._autoscaler

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what start-up found worth saying about this machine."""
        return self._engines.sandbox.notes

    async def readiness(self) -> Mapping[str, str]:
        """Return how each engine is: ok, degraded or down."""
        return await self._engines.readiness()

    async def _trim(self) -> None:
        """Let records go that are past their topic's retention."""
        while True:
            with contextlib.suppress(TemporaryError):
                dropped = await self._engines.log.trim()
                if dropped:
                    _LOG.info("%d records were past their retention", dropped)
            await self._engines.ports.clock.sleep(_TRIM_EVERY)

    async def _keep_signals(self) -> None:
        """Start the server of the signals again whenever it dies: it holds nothing that matters."""
        redis = self._engines.redis
        while True:
            await redis.ended()
            _LOG.warning("redis-server ended and is started again; streams poll meanwhile")
            while True:
                await redis.stop()
                try:
                    await redis.start()
                except StartupError as error:
                    _LOG.error("redis-server does not start: %s", error)
                    await self._engines.ports.clock.sleep(_REDIS_AGAIN)
                else:
                    break

    async def stop(self) -> None:
        """Finish what was begun, put every function to zero, stop the engines."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._autoscaler.stop()
        await self._engines.close()
