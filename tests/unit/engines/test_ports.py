"""A taken port is refused with the name of its owner."""

import os
import socket

import pytest

from tests.engines import ports
from tests.engines.engine import EngineError


@pytest.mark.parametrize(
    ("family", "host"),
    [
        pytest.param(socket.AF_INET, "127.0.0.1", id="one address"),
        pytest.param(socket.AF_INET, "0.0.0.0", id="all addresses"),  # noqa: S104 - what is told
        pytest.param(socket.AF_INET6, "::1", id="ipv6"),
    ],
)
def test_owner_is_named(family: socket.AddressFamily, host: str) -> None:
    """The message has port, pid, and what else would help."""
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]

        with pytest.raises(EngineError, match=rf"{port} is held by process {os.getpid()} \(.+\)"):
            ports.refuse_taken("kafka", [port])


def test_free_port_is_accepted() -> None:
    """A port that was let go of is free again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    ports.refuse_taken("kafka", [port])


def test_client_on_a_port_holds_nothing() -> None:
    """A connection from a port is no listener: a server may bind to it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ports.refuse_taken("kafka", [client.getsockname()[1]])


def test_engine_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next to a neighbour who needs the usual port."""
    monkeypatch.setenv("INTEGR8S_ENGINES_REDIS_PORT", "16379")

    assert ports.chosen("redis", 6379) == 16379
    assert ports.chosen("kafka", 9092) == 9092


@pytest.mark.parametrize("text", ["", "redis", "-1", "0", "65536"])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With the name of the variable, which may have been set long ago."""
    monkeypatch.setenv("INTEGR8S_ENGINES_REDIS_PORT", text)

    with pytest.raises(EngineError, match="INTEGR8S_ENGINES_REDIS_PORT is"):
        ports.chosen("redis", 6379)
