"""The application: every operation that there is, and what stands around them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import openapi
from gateway.accounts import bootstrap_admin
from gateway.answers import Json
from gateway.caretaker import Caretaker
from gateway.context import context_of
from gateway.errors import answer
from gateway.middleware import RequestContext
from gateway.operations import Gate, Operation, routes_of
from gateway.ports import GatewayPorts
from gateway.routes import admin, api_keys, auth, cloudevents, events, executions, facts, health
from gateway.services import Services, build
from gateway.settings import GatewaySettings

__all__ = ["bootstrap_admin", "create_app", "drain", "operations"]

_CORS_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Accept",
    "Origin",
    "X-Requested-With",
    "X-CSRF-Token",
    "Idempotency-Key",
    "If-Match",
    "Last-Event-ID",
    "X-Request-ID",
    "traceparent",
)
_CORS_ANSWER_HEADERS = (
    "Location",
    "ETag",
    "Link",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
    "Idempotency-Replayed",
)


def operations(services: Services) -> list[Operation]:
    """Return every operation, the busiest paths first: they are tried in this order."""
    return [
        *executions.operations(services),
        *events.operations(services),
        *health.operations(services),
        *auth.operations(services),
        *cloudevents.operations(services),
        *facts.operations(services),
        *api_keys.operations(services),
        *admin.operations(services),
    ]


def create_app(ports: GatewayPorts, settings: GatewaySettings) -> Starlette:
    """Return the gateway. Its lifespan has to run, or streams hear nothing."""
    services = build(ports, settings)
    gate = Gate(identities=services.identities, settings=settings, clock=ports.clock)
    known = operations(services)
    routes = routes_of(known, gate)
    if settings.development_mode:
        routes.append(_openapi_route(known))
    app = Starlette(
        routes=routes,
        middleware=_middleware(ports, settings),
        exception_handlers={HTTPException: _http_error(ports)},
        lifespan=_lifespan(services),
    )
    app.router.redirect_slashes = False
    app.state.services = services
    return app


async def drain(app: Starlette) -> None:
    """Let every stream move elsewhere; to be called as soon as the process is asked to stop."""
    services: Services = app.state.services
    await services.hub.drain()


def _middleware(ports: GatewayPorts, settings: GatewaySettings) -> list[Middleware]:
    context = Middleware(RequestContext, settings=settings, clock=ports.clock, ids=ports.ids)
    if not settings.cors_origins:
        return [context]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=sorted(settings.cors_origins),
        allow_credentials=True,
        allow_methods=_CORS_METHODS,
        allow_headers=_CORS_REQUEST_HEADERS,
        expose_headers=_CORS_ANSWER_HEADERS,
        max_age=600,
    )
    return [context, cors]


def _http_error(ports: GatewayPorts) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        return answer(error, request_id=context_of(request).request_id, now=ports.clock.now())

    return handle


def _openapi_route(known: list[Operation]) -> Route:
    document = openapi.document(known)

    async def show(_: Request) -> Response:
        return Json(document)

    return Route("/openapi.json", show, methods=["GET"])


def _lifespan(
    services: Services,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ports = services.ports
        caretaker = Caretaker(
            services.hub,
            executions=ports.executions,
            events=ports.events,
            signals=ports.signals,
            clock=ports.clock,
            identities=services.identities,
            settings=services.settings,
        )
        await services.hub.start()
        caretaker.start()
        try:
            yield
        finally:
            await caretaker.stop()
            await services.hub.stop()
            services.passwords.close()

    return lifespan
