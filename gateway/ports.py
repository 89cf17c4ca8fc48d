"""What the gateway is given."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from functions.submit.handler import Needs
from shared.domain.runtimes import Offer
from shared.ports.clock import Clock
from shared.ports.documents import Documents
from shared.ports.ids import Ids
from shared.ports.publisher import Publisher
from shared.ports.scaling import Scaling
from shared.ports.signals import Signals


class GatewayPorts(NamedTuple):
    """The ports of the HTTP front; collections are named as in `shared.ports.collections`."""

    executions: Documents
    users: Documents
    sessions: Documents
    api_keys: Documents
    idempotency_keys: Documents
    events: Documents
    pools: Documents
    signals: Signals
    publisher: Publisher
    clock: Clock
    ids: Ids
    offer: Offer
    submit: Needs
    """What the one function that is called in process needs."""
    scaling: Scaling
    readiness: Callable[[], Awaitable[Mapping[str, str]]]
    """Returns `event_log`, `documents`, `signals`, `cluster`, each ok, degraded or down."""
