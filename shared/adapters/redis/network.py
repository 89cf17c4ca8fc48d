"""Connections to a Redis that somebody else runs: by URL, with a password, with TLS."""

from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import RedisSSLContext, SSLConnection

from shared.domain.errors import StartupError

URL_REMEDY = (
    "Write INTEGR8S_REDIS_URL as redis://user:password@host:6379/0, or rediss:// for TLS; what is"
    " no letter or digit in the password as %40 for @, and so on."
)
CA_REMEDY = (
    "Name the certificate of its authority in INTEGR8S_REDIS_CA_FILE, and in INTEGR8S_REDIS_URL the"
    " host that its certificate is for."
)


class _TlsConnection(SSLConnection):
    """Shares the context of its pool: to read the authorities takes 16 ms, each time."""

    def __init__(self, *, context: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = context


def pool_of(url: str, *, ca_file: Path | None, **options: Any) -> BlockingConnectionPool:
    """Return a pool of connections to a URL. A certificate is checked by `ca_file`.

    Without one it is checked by the authorities of the system.

    Raises:
        StartupError: The URL is not one, or there is no such file.
    """
    try:
        pool = BlockingConnectionPool.from_url(url, **options)
    except ValueError:
        message = "The address of Redis is no URL of one."
        # Without what the driver says: it shows a password that was misread as a port.
        raise StartupError(message, remedy=URL_REMEDY) from None
    if issubclass(pool.connection_class, SSLConnection):
        _share_context(pool, ca_file)
    return pool


def _share_context(pool: BlockingConnectionPool, ca_file: Path | None) -> None:
    if ca_file is not None:
        if not ca_file.is_file():
            message = f"The certificate of Redis' authority, {ca_file}, is not there."
            raise StartupError(message, remedy=CA_REMEDY)
        pool.connection_kwargs["ssl_ca_certs"] = str(ca_file)
    # What the URL says of TLS is worked out by the driver's own class.
    pool.connection_kwargs["context"] = SSLConnection(**pool.connection_kwargs).ssl_context
    pool.connection_class = _TlsConnection
