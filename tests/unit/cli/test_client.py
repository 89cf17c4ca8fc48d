"""The client asks again exactly where that is safe, and goes on where a stream broke off."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.cli import client as client_module
from gateway.cli.client import Client
from gateway.cli.environment import Place
from gateway.cli.errors import ApiRefusal, Failure, NotRunning, Unreachable

PROBLEM = {"code": "user_queue_full", "detail": "You have 100 executions waiting."}


@dataclass
class Answer:
    """One answer of the server; None of a status hangs up instead."""

    status: int | None
    body: bytes = b"{}"


@dataclass
class Server:
    """A server that gives prepared answers and notes what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        """Note a request and give the next answer."""
        size = int(handler.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append((handler.command, handler.path, headers, handler.rfile.read(size)))
        answer = self.answers.pop(0)
        handler.close_connection = True
        if answer.status is None:
            return
        handler.send_response(answer.status)
        handler.end_headers()
        handler.wfile.write(answer.body)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server on this machine."""
    script = Server()

    class Handler(BaseHTTPRequestHandler):
        """Hands everything to the script."""

        def do_GET(self) -> None:
            """Answer a GET."""
            script.take(self)

        def do_POST(self) -> None:
            """Answer a POST."""
            script.take(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{listening.server_port}"
        yield script
        listening.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Return a client of that server, which does not really wait between tries."""
    monkeypatch.setattr(client_module, "pause", lambda _: None)
    with Client(Place(server.url, "i8s_key")) as one:
        yield one


def event(number: int) -> bytes:
    """Return one message as bytes."""
    return f"id: {number}\ndata: {number}\n\n".encode()


END = b"event: end\ndata: {}\n\n"


def test_key_travels_in_the_header_only(client: Client, server: Server) -> None:
    """Addresses end up in logs."""
    server.answers = [Answer(200)]

    client.get("/user/executions", {"status": "failed", "lang": None})

    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/api/v1/user/executions?status=failed")
    assert headers["authorization"] == "Bearer i8s_key"


def test_change_with_a_key_is_sent_again(client: Client, server: Server) -> None:
    """Under the same key it happens once, however often it arrives."""
    server.answers = [Answer(None), Answer(None), Answer(200, b'{"execution_id": "1"}')]

    answer = client.post("/execute", {"script": ""}, key="k")

    assert answer == {"execution_id": "1"}
    assert [headers["idempotency-key"] for _, _, headers, _ in server.asked] == ["k"] * 3


def test_change_without_a_key_is_sent_once(client: Client, server: Server) -> None:
    """Nobody knows whether it happened."""
    server.answers = [Answer(None)]

    with pytest.raises(Unreachable):
        client.post("/executions/1/cancel", {})

    assert len(server.asked) == 1


def test_twin_in_flight_is_asked_for_its_answer(client: Client, server: Server) -> None:
    """The first try is still under way: its answer will be ours."""
    busy = json.dumps({"code": "idempotency_in_flight", "detail": "Later."}).encode()
    server.answers = [Answer(409, busy), Answer(200, b'{"execution_id": "1"}')]

    assert client.post("/execute", {}, key="k") == {"execution_id": "1"}


def test_refusal_has_the_words_of_the_api(client: Client, server: Server) -> None:
    """And is not asked for again."""
    server.answers = [Answer(429, json.dumps(PROBLEM).encode())]

    with pytest.raises(ApiRefusal, match="100 executions waiting") as refused:
        client.post("/execute", {}, key="k")

    assert (refused.value.code, refused.value.is_fault) == ("user_queue_full", False)


def test_nobody_there_is_told_from_no_answer() -> None:
    """The remedy differs."""
    with Client(Place("http://127.0.0.1:1", "i8s_key")) as client, pytest.raises(NotRunning):
        client.post("/execute", {})


def test_address_that_is_none_is_named() -> None:
    """Before anything is sent."""
    with pytest.raises(Failure, match="INTEGR8S_URL is no address: localhost"):
        Client(Place("localhost:8000", "i8s_key"))


def test_broken_stream_goes_on_after_the_last_message(client: Client, server: Server) -> None:
    """Nothing twice, nothing missing; the one who watches is told."""
    server.answers = [
        Answer(200, event(1) + event(2) + b"id: 3\nda"),
        Answer(None),
        Answer(503, b'{"code": "unavailable"}'),
        Answer(200, event(3) + END),
    ]
    losses: list[None] = []

    seen = [message.data for message in client.watch("x", on_lost=lambda: losses.append(None))]

    assert seen == ["1", "2", "3", "{}"]
    assert len(losses) == 1
    assert [h.get("last-event-id") for _, _, h, _ in server.asked] == [None, "2", "2", "2"]


def test_server_that_shuts_down_is_left_at_once(client: Client, server: Server) -> None:
    """It waits for that; the stream goes on at whoever answers next."""
    notice = b"event: shutdown\ndata: {}\n\n"
    server.answers = [Answer(200, event(1) + notice + event(2)), Answer(200, event(2) + END)]

    seen = [message.data for message in client.watch("x") if not message.name]

    assert seen == ["1", "2"]


def test_resume_after_the_end_is_the_end(client: Client, server: Server) -> None:
    """204 says that there is nothing more."""
    server.answers = [Answer(200, event(1)), Answer(204)]

    assert [message.name for message in client.watch("x")] == ["", "end"]


def test_stream_of_an_unknown_execution_is_refused(client: Client, server: Server) -> None:
    """It will not appear by asking again."""
    server.answers = [Answer(404, b'{"code": "not_found", "detail": "There is no such."}')]

    with pytest.raises(ApiRefusal, match="no such"):
        list(client.watch("x"))


def test_stream_that_breaks_each_time_is_given_up(client: Client, server: Server) -> None:
    """Patience has a bound."""
    server.answers = [Answer(None)] * 10

    with pytest.raises(Unreachable):
        list(client.watch("x"))

    assert len(server.asked) == 10
