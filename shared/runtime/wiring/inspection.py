"""What somebody sees who looks at a cluster installation from outside, and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.installation import KubernetesInstallation
from shared.domain.errors import StartupError
from shared.ports.installation import Installation
from shared.ports.signals import Signals
from shared.runtime.engine_checks import Check
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import ClusterEngines


@dataclass(slots=True)
class Inspection:
    """The engines of a cluster, and the cluster itself where there is a way to it."""

    engines: ClusterEngines
    installation: Installation | None
    no_way: StartupError | None = None
    """Why there is no way to the cluster."""

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Prepare; nothing is connected yet.

        Raises:
            StartupError: A setting is missing or wrong.
        """
        engines = ClusterEngines.open(settings, frozenset({Signals}))
        try:
            found = KubernetesInstallation(settings.namespace, ApiServer(credentials.find()))
        except StartupError as error:
            return cls(engines, None, error)
        engines.closing.append(found.close)
        return cls(engines, found)

    @property
    def checks(self) -> Mapping[str, Check]:
        """Return the question to each engine."""
        questions: dict[str, Check] = {
            "event log": self.engines.log.ping,
            "documents": self.engines.store.ping,
        }
        if self.engines.signals is not None:
            questions["signals"] = self.engines.signals.ping
        return questions

    async def close(self) -> None:
        """Let go of everything."""
        await self.engines.close()
