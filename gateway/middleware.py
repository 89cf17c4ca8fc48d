"""What surrounds every request. Pure ASGI: a stream passes through unbuffered."""

import re
from ipaddress import ip_address

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.context import SCOPE_KEY, Context
from gateway.errors import answer
from gateway.settings import GatewaySettings
from shared.domain.tracing import is_traceparent, new_traceparent
from shared.ports.clock import Clock
from shared.ports.ids import Ids

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_TLS_ONLY = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")
_NO_STORE = (b"cache-control", b"no-store")


class RequestContext:
    """Gives each request its ids, each answer its headers, and each error its problem.

    It stands outermost, so that a refusal of anybody further in has the headers too.
    """

    def __init__(self, app: ASGIApp, *, settings: GatewaySettings, clock: Clock, ids: Ids) -> None:
        """Wrap an application."""
        self._app = app
        self._clock = clock
        self._ids = ids
        self._headers = (*_HEADERS, _TLS_ONLY) if settings.secure_cookies else _HEADERS
        self._proxies = frozenset(_normal(address) for address in settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._context(scope)
        scope[SCOPE_KEY] = context
        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # With and without the slash are one operation; a redirect would lose the body.
            scope["path"] = path.rstrip("/") or "/"
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._complete(message, context)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # the border of the process: nothing about a bug leaves it
            if started:
                raise
            response = answer(error, request_id=context.request_id, now=self._clock.now())
            await response(scope, receive, send_with_headers)

    def _context(self, scope: Scope) -> Context:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else self._ids.new()
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        if not is_traceparent(parent):
            parent = new_traceparent(self._ids.new())
        client = scope.get("client")
        address = client[0] if client else "local"
        if self._proxies:
            address = self._behind_proxies(address, headers.get(b"x-forwarded-for"))
        return Context(request_id=request_id, traceparent=parent, headers=headers, address=address)

    def _behind_proxies(self, address: str, forwarded: bytes | None) -> str:
        """Return the last address that a trusted proxy vouches for; a client may write the rest."""
        hops = (forwarded or b"").decode("latin-1").split(",")
        while _normal(address) in self._proxies and hops and hops[-1].strip():
            address = _normal(hops.pop().strip())
        return address

    def _complete(self, message: Message, context: Context) -> None:
        headers = list(message["headers"])
        names = {name for name, _ in headers}
        headers += self._headers
        headers.append((b"x-request-id", context.request_id.encode()))
        if b"cache-control" not in names:
            headers.append(_NO_STORE)
        message["headers"] = headers


def _normal(address: str) -> str:
    """Return an address in its one spelling; what is none stays as it is, cut short."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def set_cookies(send: Send, cookies: list[str]) -> Send:
    """Return a `send` that adds cookies to the answer."""

    async def send_with_cookies(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for cookie in cookies:
                headers.append("set-cookie", cookie)
        await send(message)

    return send_with_cookies
