"""How much of a request is read, and for how long."""

import asyncio
from collections.abc import Mapping
from typing import NoReturn

from starlette.types import Message, Receive

from gateway.errors import UnreadBody
from gateway.settings import GatewaySettings

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_large(headers: Mapping[bytes, bytes], settings: GatewaySettings) -> None:
    """Refuse a body that announces itself as too large, or as compressed.

    A compressed body could be a thousand times what it seems; no client needs one here.

    Raises:
        UnreadBody: With 413 or 415.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.strip().lower() not in (b"identity", b""):
        detail = "Compressed request bodies are not read; send the body as it is."
        raise UnreadBody("unsupported_media_type", detail)
    length = headers.get(b"content-length")
    if length is None:
        return
    if not length.isdigit():
        raise UnreadBody("malformed", "The Content-Length is no number.")
    # Compared by digits first: the number may have thousands of them.
    if len(length) > 18 or int(length) > settings.body_limit_bytes:  # noqa: PLR2004
        _refuse_size(settings)


def limited(receive: Receive, settings: GatewaySettings) -> Receive:
    """Return a `receive` that counts bytes and time, whatever the headers said.

    Servers have no deadline for a body that drips in; without one a few slow clients hold
    connections and memory for as long as they like.
    """
    left = settings.body_limit_bytes
    deadline: float | None = None
    finished = False

    async def receive_limited() -> Message:
        nonlocal left, deadline, finished
        if finished:
            # What follows is only the end of the connection, for which a stream may wait long.
            return await receive()
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = loop.time() + settings.body_time.total_seconds()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            seconds = settings.body_time.total_seconds()
            detail = f"The request body did not arrive within {seconds:g} s."
            raise UnreadBody("malformed", detail) from None
        left -= len(message.get("body", b""))
        finished = not message.get("more_body", False)
        if left < 0:
            _refuse_size(settings)
        return message

    return receive_limited


def may_have_body(method: str) -> bool:
    """Say whether a request of this method is read at all."""
    return method not in _BODILESS


def _refuse_size(settings: GatewaySettings) -> NoReturn:
    limit = settings.body_limit_bytes
    raise UnreadBody("body_too_large", f"The request body may have {limit} bytes, not more.")
