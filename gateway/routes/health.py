"""Whether the process turns, and whether work can be taken."""

from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.answers import Json
from gateway.operations import Access, Operation
from gateway.services import Services


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports = services.ports
    started = ports.clock.monotonic()

    async def live(_: Request) -> Response:
        uptime = int(ports.clock.monotonic() - started)
        return Json({"status": "ok", "uptime_seconds": uptime, "timestamp": ports.clock.now()})

    async def ready(_: Request) -> Response:
        checks = dict(await ports.readiness())
        status = "ready" if set(checks.values()) <= {"ok"} else "degraded"
        if checks.get("documents") == "down":
            # Everything else may be away for a while: what is accepted waits in the documents.
            status = "unready"
        return Json(
            {"status": status, "checks": checks}, status_code=503 if status == "unready" else 200
        )

    return [
        Operation(
            method="GET",
            path="/health/live",
            endpoint=live,
            access=Access.PUBLIC,
            summary="Whether the process turns",
            answer=schemas.Live,
        ),
        Operation(
            method="GET",
            path="/health/ready",
            endpoint=ready,
            access=Access.PUBLIC,
            summary="Whether work can be taken, and which part is away",
            answer=schemas.Ready,
            refusals=(503,),
        ),
    ]
