"""What a deployment may choose about the pods of executions."""

from dataclasses import dataclass, field
from pathlib import Path

from shared.adapters.kubernetes.job import Uid
from shared.domain.runtimes import LANGUAGES, Offer


def _usual_canary() -> str:
    language = LANGUAGES["python"]
    return language.image.format(version=language.default_version)


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """Which namespace, and how far its nodes can keep scripts apart."""

    namespace: str = "integr8s"
    """Where the pods are; never `default`, which has neither policy nor quota of ours."""
    runtime_class: str | None = None
    """RuntimeClass of the pods, for a stronger isolation than the node's own."""
    priority_class: str | None = None
    host_users: bool | None = None
    """False gives each pod a user namespace, which makes uid 1000 its own. A runtime that cannot
    either ignores it or refuses the pod, so None leaves the field out."""
    first_uid: int | None = None
    """Give each pod a uid of its own from here on, where there are no user namespaces: otherwise
    all pods of a node share uid 1000 and what the kernel counts by it."""
    internet_sockets: bool = True
    """False refuses every internet socket by the call filter, loopback included: isolation from
    the network even where nothing enforces the policy."""
    offer: Offer = field(default_factory=Offer)
    """Languages and versions that have an image here; others are refused for good."""
    canary_image: str = field(default_factory=_usual_canary)
    """Any image that the nodes have or can pull; the canary brings its own program."""
    kubeconfig: Path | None = None
    """How to reach the API server from outside of the cluster. Without it the pod's own account
    is used, else what the official client finds (`KUBECONFIG`, `~/.kube/config`)."""

    @property
    def uid(self) -> Uid:
        """Say whether a pod has its uid for itself, as far as that is known beforehand."""
        if self.first_uid is not None:
            return Uid.OWN
        return Uid.SHARED if self.host_users else Uid.LOOK
