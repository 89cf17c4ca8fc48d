"""The gateway's API as commands use it: over plain `http.client`, which is there in no time."""

import http.client
import json
import random
import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from gateway.cli.environment import START_IT, Place
from gateway.cli.errors import USAGE, ApiRefusal, Failure, NotRunning, Unreachable
from gateway.cli.sse import Message, Parser
from gateway.cli.values import JsonObject

PREFIX = "/api/v1"
_TRIES = 5
_STREAM_TRIES = 10
"""Some 20 s: long enough for a system that was killed to be started again."""
_LAST = frozenset({"end", "replaced", "expired"})
"""Messages after which the server wants no reconnect."""
_FIRST_PAUSE = timedelta(milliseconds=200)
_LONGEST_PAUSE = timedelta(seconds=5)
_ANSWER_SECONDS = 30
_SILENCE_SECONDS = 75
"""Longest silence of a stream: two heartbeats and a half."""
_PIECE = 64 * 1024
_OK = range(200, 300)
_LATER = frozenset({429, 503})
_BROKEN = (OSError, http.client.HTTPException)


class Client:
    """One caller of one server. Not to be shared between threads."""

    def __init__(self, place: Place) -> None:
        """Connect when the first request is made.

        Raises:
            Failure: The address is none.
        """
        parts = urlsplit(place.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(
                f"INTEGR8S_URL is no address: {place.url}.",
                remedy="It looks like http://127.0.0.1:8000 or https://integr8s.example.org.",
                exit_code=USAGE,
            )
        self.place = place
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/") + PREFIX
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, query: Mapping[str, object] | None = None) -> JsonObject:
        """Return what is read at a path."""
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        suffix = f"?{urlencode(wanted, doseq=True)}" if wanted else ""
        return self._ask("GET", path + suffix)

    def post(self, path: str, body: JsonObject, *, key: str | None = None) -> JsonObject:
        """Return the answer to a change. With an idempotency key it is safe to ask again."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._ask("POST", path, body, headers, again=key is not None)

    def _ask(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        again: bool = True,
    ) -> JsonObject:
        """Ask until there is an answer, as often as it is safe and makes sense.

        Raises:
            ApiRefusal: The server said no.
            NotRunning: Nothing listens there.
            Unreachable: No answer came.
        """
        payload = None if body is None else json.dumps(body).encode()
        tries = _TRIES if again else 1
        for number in range(1, tries + 1):
            try:
                return self._ask_once(method, path, payload, headers or {})
            except ApiRefusal as refusal:
                if refusal.code != "idempotency_in_flight" or number == tries:
                    raise
            except _BROKEN as error:
                self.close()
                if number == tries:
                    raise self._gone(error) from error
            pause(number)
        raise AssertionError

    def _ask_once(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]
    ) -> JsonObject:
        response = self._send(method, path, payload, headers)
        raw = response.read()
        if response.status not in _OK:
            raise ApiRefusal(response.status, _object(raw))
        return _object(raw)

    def _send(
        self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect(_ANSWER_SECONDS)
        kind = {"Content-Type": "application/json"} if payload is not None else {}
        try:
            connection.request(method, self._base + path, payload, self._headers(kind, headers))
            return connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A server may close an idle connection at any moment; whether it had read the request
            # is unknown, so only the caller, who knows its key, may ask again.
            self.close()
            raise

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=seconds, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)

    def _headers(self, *more: Mapping[str, str]) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self.place.api_key}",
            "Accept": "application/json",
            "User-Agent": "integr8s-cli",
        }
        for some in more:
            headers.update(some)
        return headers

    def _gone(self, error: BaseException) -> Failure:
        if isinstance(error, ConnectionRefusedError):
            return NotRunning(f"Nothing listens at {self.place.url}.", remedy=START_IT)
        if isinstance(error, (socket.gaierror, ssl.SSLError)):
            return Unreachable(f"{self.place.url} cannot be reached: {error}.")
        return Unreachable(
            f"{self.place.url} gave no answer ({type(error).__name__}).",
            remedy="Look with `integr8s status`.",
        )

    def watch(
        self, execution_id: str, *, on_lost: Callable[[], None] | None = None
    ) -> Iterator[Message]:
        """Yield the messages of an execution's stream up to its end, however often it breaks.

        The last message is the one named `end`, or another that tells the client to stop.

        Raises:
            ApiRefusal: The server said no.
            NotRunning: Nothing listens there any more.
            Unreachable: The stream broke several times in a row without a single message.
        """
        parser = Parser()
        failures = 0
        while True:
            problem: BaseException = ConnectionResetError()
            try:
                for message in self._stream(execution_id, parser):
                    failures = 0
                    yield message
                    if message.name in _LAST:
                        return
                    if message.name == "shutdown":
                        break  # the server waits for its clients to go
            except ApiRefusal as refusal:
                if refusal.status not in _LATER:
                    raise
                problem = refusal
            except _BROKEN as error:
                problem = error
            failures += 1
            if failures == 1 and on_lost is not None:
                on_lost()
            if failures >= _STREAM_TRIES:
                raise problem if isinstance(problem, ApiRefusal) else self._gone(problem)
            pause(failures)
            parser = Parser(parser.last_id)

    def _stream(self, execution_id: str, parser: Parser) -> Iterator[Message]:
        path = f"{self._base}/events/executions/{quote(execution_id, safe='')}"
        resume = {"Last-Event-ID": parser.last_id} if parser.last_id else {}
        connection = self._connect(_SILENCE_SECONDS)
        try:
            headers = self._headers({"Accept": "text/event-stream"}, resume)
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status == http.client.NO_CONTENT:
                yield Message("end", "", parser.last_id)
                return
            if response.status not in _OK:
                raise ApiRefusal(response.status, _object(response.read()))
            while piece := response.read1(_PIECE):
                yield from parser.feed(piece)
        finally:
            connection.close()


def pause(number: int) -> None:
    """Wait before the next try: longer each time, and not in step with others."""
    longest = min(_FIRST_PAUSE * 2 ** (number - 1), _LONGEST_PAUSE).total_seconds()
    select.select([], [], [], random.uniform(longest / 2, longest))  # noqa: S311 - no secret


def _object(raw: bytes) -> JsonObject:
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {"items": value}
