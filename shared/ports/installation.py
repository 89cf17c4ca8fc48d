"""What an installation needs of its Kubernetes beside the engines: facts, for a doctor to judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.ports.cluster import Pod
from shared.ports.scaling import Workload


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where functions and scripts are."""

    name: str
    pod_security: str
    """The level that is enforced; empty where none is."""
    policies: frozenset[str]
    """Names of its NetworkPolicies. Whether anything enforces them only a canary finds out."""


class Installation(Protocol):
    """Looks, and changes nothing.

    Every method raises TemporaryError where there is no answer, and PermanentError where this
    process may not ask.
    """

    async def namespace(self) -> Namespace | None:
        """Return the namespace, None where it is not there."""

    async def has_keda(self) -> bool:
        """Say whether there may be ScaledObjects."""

    async def has_knative(self) -> bool:
        """Say whether there may be Knative Services."""

    async def workloads(self) -> Sequence[Workload]:
        """Return every function that KEDA scales."""

    async def pods(self) -> Sequence[Pod]:
        """Return every pod of a script."""
