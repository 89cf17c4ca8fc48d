"""The engines of one process, whichever profile it runs in."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, get_type_hints

from shared.runtime.ports import Ports
from shared.runtime.settings import Settings


class Engines(Protocol):
    """Ports over engines that were opened."""

    @property
    def ports(self) -> Ports:
        """Return every port."""

    async def readiness(self) -> Mapping[str, str]:
        """Return how each engine is: ok, degraded or down."""

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Return once every engine has answered; False if the process is to stop instead.

        Those without which work only gets worse, the signals, are asked but not waited for.

        Raises:
            StartupError: An engine answered, and will never serve this process.
        """

    async def prove_isolation(self) -> None:
        """Return if scripts of this process reach nothing that they must not.

        Raises:
            StartupError: They would.
            TemporaryError: It could not be found out.
        """

    async def close(self) -> None:
        """Let go of the engines, in the order in which nothing is lost."""


def needs_of(needs: type[Any]) -> frozenset[Any]:
    """Return the types of the fields of a NamedTuple of ports, nested ones included."""
    found: set[Any] = set()
    for kind in get_type_hints(needs).values():
        found |= {kind} if not hasattr(kind, "_fields") else needs_of(kind)
    return frozenset(found)


async def open_engines(settings: Settings, needs: type[Any]) -> Engines:
    """Open what a function needs: of the cluster, or all that there is of this machine.

    Raises:
        StartupError: Something is missing, in use or too new; nothing was changed.
    """
    if settings.enable_event_streaming:
        from shared.runtime.wiring.cluster import ClusterEngines  # noqa: PLC0415 - the other profile

        return ClusterEngines.open(settings, needs_of(needs))
    from shared.runtime.wiring.embedded import open_embedded  # noqa: PLC0415 - the other profile

    return await open_embedded(settings)
