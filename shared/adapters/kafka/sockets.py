"""Sockets that are closed when nobody answers; the driver's own stay open until they are collected.

A process that waits for a broker tries about once a second, and would run out of them in an hour.
"""

import ssl
from typing import Any

from kafka.net.inet import KafkaNetSocket

CLOSING = "closing://"
"""To be told to a client as its way out, where others have a proxy."""


class ClosingSocket(KafkaNetSocket):
    """Goes straight to the broker."""

    SCHEMES = ("closing",)

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
    """Closes when the broker is not whom we trust, or speaks no TLS."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as its base has it
        """Agree on keys, or close."""
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise
