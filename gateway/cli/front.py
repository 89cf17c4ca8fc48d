"""What the gateway is given of the runtime: its ports and its settings."""

from datetime import timedelta

from pydantic import ValidationError

from functions.submit.handler import Needs
from gateway.ports import GatewayPorts
from gateway.settings import GatewaySettings
from shared.domain.errors import StartupError
from shared.ports.scaling import Scaling
from shared.runtime.health import Readiness
from shared.runtime.ports import Ports
from shared.runtime.settings import Settings


def ports_of(ports: Ports, *, scaling: Scaling, readiness: Readiness) -> GatewayPorts:
    """Return what the gateway is given."""
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
        scaling=scaling,
        readiness=readiness,
    )


def settings_of(settings: Settings) -> GatewaySettings:
    """Return the gateway's part of the settings.

    Raises:
        StartupError: They do not go together.
    """
    try:
        return GatewaySettings.model_validate(
            {
                "secret_key": settings.secret(),
                "development_mode": settings.development_mode,
                "environment": "cluster" if settings.enable_event_streaming else "embedded",
                "host": settings.host,
                "secure_cookies": settings.secure_cookies,
                "admin_username": settings.admin_username,
                "admin_password": settings.admin_password,
                "rate_limit_enabled": settings.rate_limit_enabled,
                "stream_longest": timedelta(seconds=settings.stream_longest_seconds),
            }
        )
    except ValueError as error:
        raise StartupError(
            f"The gateway cannot be set up: {_first_fault(error)}.",
            remedy="Correct the setting; `integr8s settings-help` lists every one.",
        ) from error


def _first_fault(error: ValueError) -> str:
    """Return the words of a model without the values, which may be secrets."""
    if not isinstance(error, ValidationError):
        return str(error)
    return error.errors()[0]["msg"].removeprefix("Value error, ")
