"""POST to where users said, and never inwards."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cache
from ipaddress import ip_address

import httpx2

from shared.adapters.outside.addresses import Address, is_public, literal
from shared.domain.errors import PermanentError, TemporaryError
from shared.ports.outside import Answer

KEPT_BODY_BYTES = 64 * 1024

_OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding"}
)
"""Headers that speak of the connection; a caller's own would smuggle or address another host."""

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


class HttpOutside:
    """HTTPS by a client that is made anew for each call, so that no call sees another's cookies."""

    def __init__(
        self,
        *,
        resolve: Resolver | None = None,
        is_allowed: Callable[[Address], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Use the machine's resolver and the usual certificates unless others are given."""
        self._resolve = resolve or _resolve
        self._is_allowed = is_allowed
        self._tls = tls

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout: timedelta
    ) -> Answer:
        """POST to a public https address; redirects are not followed, proxies not used.

        The name is resolved once, every address that it resolves to must be public, and the
        connection goes to the address that was checked.

        Raises:
            PermanentError: The address is refused: not https, private, loopback, link-local, ...
            TemporaryError: No answer in time, or none at all.
        """
        target = _parsed(url)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                addresses = await self._checked_addresses(target)
                return await self._post(target, addresses, body, headers)
        except TimeoutError as error:
            raise TemporaryError(f"{target.host} gave no answer in time") from error

    async def _checked_addresses(self, target: httpx2.URL) -> Sequence[Address]:
        itself = literal(target.host)
        try:
            addresses = (
                [itself]
                if itself is not None
                else await self._resolve(target.raw_host.decode(), target.port or 443)
            )
        except UnicodeError as error:
            raise PermanentError(f"{target.host!r} is no name of a host") from error
        except OSError as error:
            raise TemporaryError(f"{target.host} cannot be resolved: {error}") from error
        if not addresses:
            raise TemporaryError(f"{target.host} has no address")
        # All of them: with one public address among private ones, the order would decide.
        if not all(map(self._is_allowed, addresses)):
            raise PermanentError(f"{target.host} is refused: it is not on the public internet")
        return addresses

    async def _post(
        self,
        target: httpx2.URL,
        addresses: Sequence[Address],
        body: bytes,
        headers: Mapping[str, str],
    ) -> Answer:
        transport = httpx2.AsyncHTTPTransport(verify=self._tls or _usual_tls(), trust_env=False)
        async with httpx2.AsyncClient(
            transport=transport, timeout=None, trust_env=False, follow_redirects=False
        ) as client:
            requests = [_request(target, address, body, headers) for address in addresses]
            try:
                return await _first_answer(client, requests)
            except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol) as error:
                raise PermanentError(f"the request cannot be sent: {error}") from error
            except httpx2.HTTPError as error:
                message = f"{target.host} gave no answer: {type(error).__name__}"
                raise TemporaryError(message) from error


def _request(
    target: httpx2.URL, address: Address, body: bytes, headers: Mapping[str, str]
) -> httpx2.Request:
    """Return a request to the address that was checked, in the name that was asked for."""
    kept = {name: value for name, value in headers.items() if name.lower() not in _OURS}
    own = {"Host": target.netloc.decode("ascii"), "Accept-Encoding": "identity"}
    try:
        return httpx2.Request(
            "POST",
            target.copy_with(host=str(address)),
            headers={**kept, **own},
            content=body,
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )
    except UnicodeError as error:
        raise PermanentError("a header has characters that cannot be sent") from error


async def _first_answer(client: httpx2.AsyncClient, requests: Sequence[httpx2.Request]) -> Answer:
    """Ask one address after the other until one of them takes the connection."""
    *others, last = requests
    for request in others:
        # Nothing was sent yet, so nothing can happen twice.
        with suppress(httpx2.ConnectError):
            return await _answer(client, request)
    return await _answer(client, last)


async def _answer(client: httpx2.AsyncClient, request: httpx2.Request) -> Answer:
    response = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= KEPT_BODY_BYTES:
                break
        return Answer(response.status_code, bytes(body[:KEPT_BODY_BYTES]))
    finally:
        await response.aclose()


def _parsed(url: str) -> httpx2.URL:
    """Return the parts of an address.

    Raises:
        PermanentError: It is not an https address of a host.
    """
    try:
        target = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise PermanentError(f"the address is malformed: {error}") from error
    if target.scheme != "https" or not target.host:
        raise PermanentError("only https addresses are called")
    if target.userinfo:
        raise PermanentError("an address with a name or password in it is not called")
    return target


async def _resolve(host: str, port: int) -> Sequence[Address]:
    """Ask the machine's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(place[0]) for *_, place in found]


@cache
def _usual_tls() -> ssl.SSLContext:
    """Return the usual trust; loading it takes longer than the rest of a call."""
    return httpx2.create_ssl_context()
