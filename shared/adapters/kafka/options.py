"""How Kafka is reached, as plain values, and what every client of ours is told."""

import importlib.util
import logging
import socket
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from shared.adapters.kafka.sockets import CLOSING, ClosingTlsSocket
from shared.domain.errors import StartupError

_LOG = logging.getLogger(__name__)

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PROTOCOL = (3, 0)
"""The oldest Kafka that we speak to. Naming it spares each client a connection that only asks for
the version, and lets a client be made while no broker is there."""
_RECONNECT_AT_LEAST_MS = 50
_RECONNECT_AT_MOST_MS = 1_000
"""The driver's own 30 s would keep a function away for that long after a broker is back."""
_SOCKET = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""A machine that vanished without a word is found out within half a minute."""


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The brokers, the way in, and what belongs to us there.

    Raises:
        StartupError: Signing in was asked for, but not as whom.
    """

    servers: tuple[str, ...]
    """Brokers to begin with, each `host:port`."""
    sasl_mechanism: SaslMechanism | None = None
    """How to sign in; None where there are no accounts."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    """Certificates that the brokers' are checked by; without it those of the system."""
    prefix: str = ""
    """Stands before the names of topics and groups, where brokers are shared with others."""
    session: timedelta = timedelta(seconds=10)
    """A member that was not heard for this long is dead, and others take over its partitions."""
    heartbeat: timedelta = timedelta(seconds=1)
    """How often a member is heard; it learns that the group is shared out anew at that time."""
    patience: timedelta = timedelta(seconds=5)
    """How long to try to reach a broker before saying that there is none."""

    def __post_init__(self) -> None:
        if self.sasl_mechanism is not None and not (self.username and self.password):
            raise StartupError(
                f"Kafka is to be signed in to by {self.sasl_mechanism}, but not as whom.",
                remedy="Set INTEGR8S_KAFKA_USERNAME and INTEGR8S_KAFKA_PASSWORD.",
            )

    @property
    def patience_ms(self) -> int:
        """Return the patience as the driver counts it."""
        return milliseconds(self.patience)

    def name(self, ours: str) -> str:
        """Return a topic or group as Kafka knows it."""
        return self.prefix + ours

    def client(self) -> dict[str, Any]:
        """Return what every client is told: where to go, how to get in, when to come back.

        Raises:
            StartupError: There are no certificates in the file that was named.
        """
        warn_if_slow()
        quieten_driver()
        told: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": "integr8s",
            "api_version": _PROTOCOL,
            "reconnect_backoff_ms": _RECONNECT_AT_LEAST_MS,
            "reconnect_backoff_max_ms": _RECONNECT_AT_MOST_MS,
            "socket_options": _SOCKET,
            "proxy_url": CLOSING,
            "security_protocol": self._protocol,
        }
        if self.tls:
            told["ssl_context"] = self._trust()
        if self.sasl_mechanism is not None:
            told["sasl_mechanism"] = self.sasl_mechanism
            told["sasl_plain_username"] = self.username
            told["sasl_plain_password"] = self.password
        return told

    def _trust(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise StartupError(
                f"The certificates in {self.ca_file} cannot be read: {error}.",
                remedy="Point INTEGR8S_KAFKA_CA_FILE at a PEM file that this process may read.",
            ) from error
        context.sslsocket_class = ClosingTlsSocket
        return context

    @property
    def _protocol(self) -> str:
        transport = "SSL" if self.tls else "PLAINTEXT"
        return transport if self.sasl_mechanism is None else f"SASL_{transport}"


def milliseconds(span: timedelta) -> int:
    """Return a duration as the driver wants it."""
    return round(span.total_seconds() * 1000)


@cache
def warn_if_slow() -> None:
    """Say, once a process, that checksums are counted in Python: reading is ten times slower."""
    if importlib.util.find_spec("crc32c") is None:
        _LOG.warning(
            "the Python package crc32c is missing, so Kafka's records are read and written many"
            " times slower: install integr8s[cluster], or kafka-python[crc32c]"
        )


@cache
def quieten_driver() -> None:
    """Keep the driver from telling of each attempt that failed, which is many times a second.

    What matters comes to those who called, as an error. Whoever wants to see it all sets the level
    of the logger `kafka`, or logs at DEBUG.
    """
    driver = logging.getLogger("kafka")
    if driver.level == logging.NOTSET and not driver.isEnabledFor(logging.DEBUG):
        driver.setLevel(logging.CRITICAL)
