"""One operation of the API: its address, who may call it, and how it is described.

Nothing is reachable without an entry here, and every entry says who may call it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identities
from gateway.context import SCOPE_KEY, Caller, Context
from gateway.errors import answer
from gateway.limits import limited, may_have_body, refuse_large
from gateway.middleware import set_cookies
from gateway.settings import GatewaySettings
from shared.domain.errors import Refusal
from shared.ports.clock import Clock

PREFIX = "/api/v1"
Endpoint = Callable[[Request], Awaitable[Response | ASGIApp]]


class Access(StrEnum):
    """Who may call an operation."""

    PUBLIC = "public"
    USER = "user"
    """Somebody signed in; what belongs to others looks unknown."""
    STREAM = "stream"
    """Somebody signed in, or a stream ticket in the query: the operation itself decides."""
    MODERATOR = "moderator"
    """Administrators, and moderators who may look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path."""

    method: str
    path: str
    """Below `/api/v1`, with parameters in braces."""
    endpoint: Endpoint
    access: Access
    summary: str
    scopes: frozenset[str] = frozenset()
    """API keys with one of these scopes may call it; without any, only cookies."""
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers and what they are for."""
    answer: Any = None
    """The type of the JSON answer, or the media type of another one."""
    status: int = 200
    refusals: Iterable[int] = ()
    """Statuses beyond those that every operation may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What every guard needs to let somebody in."""

    identities: Identities
    settings: GatewaySettings
    clock: Clock


class Guard:
    """Stands in front of one operation: identity, rights, CSRF, size, in this order."""

    def __init__(self, operation: Operation, gate: Gate) -> None:
        """Guard an operation."""
        self._operation = operation
        self._gate = gate
        self._body = may_have_body(operation.method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of this operation."""
        context: Context = scope[SCOPE_KEY]
        operation = self._operation
        if operation.access is not Access.PUBLIC:
            context.caller = caller = await self._admit(context)
            if caller is not None and caller.credential == "session":
                await self._gate.identities.check_csrf(
                    operation.method,
                    context,
                    session_id=caller.credential_id,
                    user_id=caller.user_id,
                )
                send = await self._renewing(send, caller, context)
        if self._body:
            refuse_large(context.headers, self._gate.settings)
            receive = limited(receive, self._gate.settings)
        response = await operation.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _admit(self, context: Context) -> Caller | None:
        operation = self._operation
        caller = await self._gate.identities.identify(context)
        if caller is None:
            if operation.access is Access.STREAM:
                return None
            raise Refusal("unauthenticated", "Sign in, or send an API key.")
        refusal = self._denial(caller)
        if refusal is not None:
            await self._gate.identities.say_denied(context, caller, resource=operation.path)
            raise refusal
        return caller

    def _denial(self, caller: Caller) -> Refusal | None:
        """Return why a known caller may not call this, or None."""
        operation = self._operation
        if caller.credential == "key" and not caller.scopes & operation.scopes:
            wanted = " or ".join(sorted(operation.scopes)) or "none: sign in with a browser"
            return Refusal("scope_missing", f"This API key lacks the scope; needed: {wanted}.")
        if operation.access is Access.MODERATOR and not caller.is_moderator:
            return Refusal("forbidden", "This is for administrators.")
        return None

    async def _renewing(self, send: Send, caller: Caller, context: Context) -> Send:
        session = await self._gate.identities.renewed(caller, context)
        if session is None:
            return send
        return set_cookies(send, self._gate.identities.cookies(session))


class Resource:
    """All operations of one path."""

    def __init__(self, operations: Iterable[Operation], gate: Gate) -> None:
        """Guard each of them."""
        self._guards = {operation.method: Guard(operation, gate) for operation in operations}
        self._clock = gate.clock
        methods = set(self._guards) | ({"HEAD"} if "GET" in self._guards else set())
        self._allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of this path."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        guard = self._guards.get(method)
        if guard is not None:
            await guard(scope, receive, send)
            return
        context: Context = scope[SCOPE_KEY]
        detail = f"{scope['method'][:16]} does not work here; these do: {self._allow}."
        refusal = Refusal("method_not_allowed", detail)
        response = answer(refusal, request_id=context.request_id, now=self._clock.now())
        response.headers["Allow"] = self._allow
        await response(scope, receive, send)


def routes_of(operations: Iterable[Operation], gate: Gate) -> list[Route]:
    """Return one route per path, in the order in which the paths first appear."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [Route(PREFIX + path, Resource(them, gate)) for path, them in by_path.items()]
