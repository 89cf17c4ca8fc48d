"""The stream of an execution, and the tickets that open one without a cookie."""

from datetime import timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import schemas
from gateway.answers import Json, dumps, no_content
from gateway.bodies import query, read
from gateway.context import Caller, caller_of, context_of
from gateway.errors import invalid
from gateway.executions import owned
from gateway.messages import DEFAULT_GROUPS, GROUPS
from gateway.operations import Access, Operation
from gateway.services import Services
from gateway.streaming import Stream
from gateway.tokens import new_secret, stored_hash
from shared.domain.errors import Refusal
from shared.domain.executions import TERMINAL
from shared.events.security import TokenInQuery

_TICKET_SECONDS = 60
_TICKET_TIME = timedelta(seconds=_TICKET_SECONDS)
_LONGEST_NUMBER = 15
"""Digits of a number that every store can compare."""


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports, hub = services.ports, services.hub

    async def stream(request: Request) -> Response | ASGIApp:
        wanted = query(request, schemas.StreamQuery)
        execution_id = request.path_params["execution_id"]
        caller = await _watcher(services, request, wanted.token, execution_id)
        groups = groups_of(wanted.include)
        execution = await owned(services, execution_id, caller)
        last_id = request.headers.get("last-event-id") or wanted.last_event_id or ""
        if last_id.startswith(("replaced:", "end:")):
            # The stream said why it ended. A browser that connects again all the same stops at 204.
            return no_content()
        last, has_ended = await hub.resume_point(execution_id, number_of(last_id))
        if has_ended and execution["status"] in TERMINAL:
            return no_content()
        hub.admit(caller)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        opened = await hub.open(execution, caller=caller, groups=groups, last=last)
        is_compressed = services.settings.stream_gzip and accepts_gzip(
            request.headers.get("accept-encoding", "")
        )
        return _Served(services, opened, is_compressed=is_compressed)

    async def ticket(request: Request) -> Response:
        caller = caller_of(request)
        wanted = await read(request, schemas.TicketBody)
        await owned(services, wanted.resource_id, caller)
        secret = new_secret()
        value = {
            "identity": caller.identity,
            "kind": wanted.kind,
            "resource_id": wanted.resource_id,
            "expires_at": ports.clock.now().timestamp() + _TICKET_SECONDS,
        }
        await ports.signals.put(_ticket_key(secret), dumps(value), expires=_TICKET_TIME)
        return Json({"ticket": secret, "expires_in": _TICKET_SECONDS})

    return [
        Operation(
            method="GET",
            path="/events/executions/{execution_id}",
            endpoint=stream,
            access=Access.STREAM,
            scopes=frozenset({"read", "execute"}),
            summary="Follow an execution live, to its stored result",
            query=schemas.StreamQuery,
            headers={"Last-Event-ID": "Where an earlier stream of this execution broke off"},
            answer="text/event-stream",
            refusals=(204, 401, 404, 422),
        ),
        Operation(
            method="POST",
            path="/events/ticket",
            endpoint=ticket,
            access=Access.USER,
            scopes=frozenset({"read", "execute"}),
            summary="A ticket that opens one stream, once, within a minute",
            body=schemas.TicketBody,
            answer=schemas.Ticket,
            refusals=(404, 415, 422),
        ),
    ]


class _Served:
    """A stream as an answer."""

    def __init__(self, services: Services, stream: Stream, *, is_compressed: bool) -> None:
        self._hub = services.hub
        self._stream = stream
        self._is_compressed = is_compressed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until it ends."""
        del scope
        await self._hub.serve(self._stream, receive, send, is_compressed=self._is_compressed)


async def _watcher(
    services: Services, request: Request, token: str | None, execution_id: str
) -> Caller:
    """Return who opens a stream: by ticket where one is given, else as everywhere."""
    context = context_of(request)
    if token is None:
        if context.caller is None:
            raise Refusal("unauthenticated", "Sign in, or open the stream with a ticket.")
        return context.caller
    if "." in token:
        await _say_token_in_query(services, request, execution_id)
        detail = "A session token has no place in an address; ask for a stream ticket."
        raise Refusal("unauthenticated", detail)
    found = await services.ports.signals.take(_ticket_key(token))
    value = orjson.loads(found) if found else {}
    now = services.ports.clock.now().timestamp()
    is_valid = (
        value.get("kind") == "execution"
        and value.get("resource_id") == execution_id
        and value.get("expires_at", 0) > now
    )
    caller = await services.identities.by_identity(value["identity"]) if is_valid else None
    if caller is None:
        raise Refusal("unauthenticated", "This stream ticket is used up, expired or for another.")
    return caller


async def _say_token_in_query(services: Services, request: Request, execution_id: str) -> None:
    context, ports = context_of(request), services.ports
    user_id = context.caller.user_id if context.caller else None
    data = TokenInQuery(
        user_id=user_id, address=context.address, resource=execution_id[:64], action="stream"
    )
    event = context.event(
        data, subject=user_id or "anonymous", at=ports.clock.now(), event_id=ports.ids.new()
    )
    await services.identities.say(event)


def _ticket_key(secret: str) -> str:
    return f"sse:ticket:{stored_hash(secret)}"


def groups_of(include: str | None) -> frozenset[str]:
    """Return what a stream shall hold.

    Raises:
        Refusal: A part that streams do not have.
    """
    if include is None:
        return DEFAULT_GROUPS
    names = {name.strip() for name in include.split(",") if name.strip()}
    unknown = sorted(names - set(GROUPS))
    if unknown:
        msg = f"{unknown[0][:32]!r} is none of {', '.join(GROUPS)}"
        raise invalid(("query", "include"), msg, "enum")
    return frozenset(names) or DEFAULT_GROUPS


def number_of(last_id: str) -> int:
    """Return the number that a last id means; what is none begins at the beginning."""
    if not (last_id.isascii() and last_id.isdigit()):
        return 0
    return int(last_id) if len(last_id) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


def accepts_gzip(header: str) -> bool:
    """Say whether an Accept-Encoding header allows gzip."""
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
