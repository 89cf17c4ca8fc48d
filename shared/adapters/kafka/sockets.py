"""Sockets that are closed when nobody answers; the driver's own stay open until they are collected.

A process that waits for a broker tries about once a second, and would run out of them in an hour.
The driver also forgets a socket that it still had something to write to when its client was closed.
Such a one is closed when it is collected, at most a few for each client that there was.
"""

import socket
import ssl
from contextlib import suppress
from typing import Any

from kafka.net.inet import KafkaNetSocket

CLOSING = "closing://"
"""To be told to a client as its way out, where others have a proxy."""


def _let_go(forgotten: socket.socket) -> None:
    """Close a socket; one that could never be opened has nothing to close, and says so."""
    with suppress(AttributeError):
        forgotten.close()


class _PlainSocket(socket.socket):
    """Closes with its last reference, and without the warning that others give."""

    def __del__(self) -> None:
        _let_go(self)


class ClosingSocket(KafkaNetSocket):
    """Goes straight to the broker."""

    SCHEMES = ("closing",)

    def socket(
        self,
        family: int = socket.AF_UNSPEC,
        sock_type: int = socket.SOCK_STREAM,
        proto: int = socket.IPPROTO_TCP,
    ) -> socket.socket:
        """Return a socket that may be forgotten."""
        return _PlainSocket(family, sock_type, proto)

    async def sock_connect(
        self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None
    ) -> Any:
        """Connect, or close."""
        try:
            return await super().sock_connect(  # type: ignore[no-untyped-call]  # the driver's
                net, sock, sockaddr, timeout_at=timeout_at
            )
        except BaseException:
            sock.close()
            raise


class ClosingTlsSocket(ssl.SSLSocket):
    """Closes when the broker is not whom we trust, or speaks no TLS; or when forgotten."""

    def __del__(self) -> None:
        _let_go(self)

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as its base has it
        """Agree on keys, or close."""
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise
