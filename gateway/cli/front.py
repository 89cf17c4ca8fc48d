"""The gateway over an embedded system: its ports and its settings."""

from functions.submit.handler import Needs
from gateway.ports import GatewayPorts
from gateway.settings import GatewaySettings
from shared.runtime.local import EmbeddedSystem
from shared.runtime.settings import Settings


def ports_of(system: EmbeddedSystem) -> GatewayPorts:
    """Return what the gateway is given of a system."""
    ports = system.ports
    return GatewayPorts(
        executions=ports.documents("executions"),
        users=ports.documents("users"),
        sessions=ports.documents("sessions"),
        api_keys=ports.documents("api_keys"),
        idempotency_keys=ports.documents("idempotency_keys"),
        events=ports.documents("events"),
        pools=ports.documents("pools"),
        signals=ports.signals,
        publisher=ports.publisher,
        clock=ports.clock,
        ids=ports.ids,
        offer=ports.offer,
        submit=ports.fill(Needs),
        scaling=system.scaling,
        readiness=system.readiness,
    )


def settings_of(settings: Settings) -> GatewaySettings:
    """Return the gateway's part of the settings."""
    return GatewaySettings.model_validate(
        {
            "secret_key": settings.secret(),
            "development_mode": settings.development_mode,
            "host": settings.host,
            "secure_cookies": settings.secure_cookies,
            "admin_username": settings.admin_username,
            "admin_password": settings.admin_password,
            "rate_limit_enabled": settings.rate_limit_enabled,
        }
    )
