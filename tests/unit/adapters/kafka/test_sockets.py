"""Sockets that the driver forgets."""

import gc
import socket

from kafka.net.inet import create_connection
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaTCPTransport

from shared.adapters.kafka.sockets import CLOSING


def test_a_socket_with_something_left_to_write_is_closed_when_its_client_is_gone() -> None:
    """The driver's loop ends with the writer still waiting, which alone would have closed it."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        _write_and_leave(broker.getsockname()[1])
        accepted, _ = broker.accept()
    with accepted:
        accepted.settimeout(5)
        gc.collect()

        assert accepted.recv(1) == b"", "closed, and nothing was written"


def _write_and_leave(port: int) -> None:
    net = NetworkSelector()

    async def connect() -> KafkaTCPTransport:
        sock = await create_connection(net, "127.0.0.1", port, proxy_url=CLOSING)
        return KafkaTCPTransport(net, sock)

    transport = net.run(connect)
    transport.write(b"words that nobody waits for")
    transport.close()
    net.close()
