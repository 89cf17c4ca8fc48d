"""What the routes share: the ports, and what was built on them once."""

from typing import NamedTuple

from gateway.auth import Identities
from gateway.lockout import Lockout
from gateway.passwords import Passwords
from gateway.ports import GatewayPorts
from gateway.settings import GatewaySettings
from gateway.streaming import Hub
from gateway.tokens import Tokens


class Services(NamedTuple):
    """Everything an operation may use."""

    ports: GatewayPorts
    settings: GatewaySettings
    identities: Identities
    tokens: Tokens
    passwords: Passwords
    lockout: Lockout
    hub: Hub


def build(ports: GatewayPorts, settings: GatewaySettings) -> Services:
    """Build what the routes share."""
    tokens = Tokens(settings)
    identities = Identities(
        users=ports.users,
        sessions=ports.sessions,
        api_keys=ports.api_keys,
        signals=ports.signals,
        publisher=ports.publisher,
        clock=ports.clock,
        ids=ports.ids,
        tokens=tokens,
        settings=settings,
    )
    return Services(
        ports=ports,
        settings=settings,
        identities=identities,
        tokens=tokens,
        passwords=Passwords(settings),
        lockout=Lockout(
            signals=ports.signals,
            documents=ports.idempotency_keys,
            clock=ports.clock,
            settings=settings,
        ),
        hub=Hub(
            executions=ports.executions,
            events=ports.events,
            signals=ports.signals,
            clock=ports.clock,
            identities=identities,
            settings=settings,
        ),
    )
