"""Requests to the API server, and what its answers mean for whoever asked."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2
import orjson

from shared.adapters.kubernetes.credentials import Credentials
from shared.domain.errors import PermanentError, TemporaryError

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"

_CALL_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
_NO_LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
_TEMPORARY: Final = frozenset({401, 403, 404, 408, 409, 429})
_MESSAGE_CHARS: Final = 300
_PAGE: Final = 500


class Answer(Exception):
    """The API server answered something else than success."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after: timedelta | None = None
    ) -> None:
        """Take over what its Status object says."""
        super().__init__(f"{status} {reason}: {message}"[:_MESSAGE_CHARS])
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def is_gone(self) -> bool:
        """Say whether what was asked for is not there."""
        return self.status == httpx2.codes.NOT_FOUND

    @property
    def exists_already(self) -> bool:
        """Say whether what was to be made is there."""
        return self.reason == "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """Say whether a watch must list again."""
        return self.status == httpx2.codes.GONE

    def as_ours(self) -> PermanentError | TemporaryError:
        """Say what it means for whoever may try again.

        A right that is missing or a quota that is full can be mended while the order waits. What
        admission refuses for its content is refused again.
        """
        if self.status == httpx2.codes.FORBIDDEN and "violates PodSecurity" in self.message:
            return PermanentError(str(self))
        if self.status in _TEMPORARY or self.status >= httpx2.codes.INTERNAL_SERVER_ERROR:
            return TemporaryError(
                f"The API server answered {self}.",
                retry_after=self.retry_after or timedelta(seconds=1),
            )
        return PermanentError(str(self))


class ApiServer:
    """One API server. Every method raises TemporaryError where it gives no answer."""

    def __init__(
        self, credentials: Credentials, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """Prepare; the first request connects. A `transport` stands for the network in tests."""
        self._credentials = credentials
        self._client = httpx2.AsyncClient(
            base_url=credentials.server,
            verify=credentials.trust,
            transport=transport,
            limits=_NO_LIMITS,
            timeout=httpx2.Timeout(_CALL_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=False,
            headers={"Accept": JSON, "User-Agent": "integr8s"},
        )
        self.answered_at: datetime | None = None
        """The server's own time of its last answer: ages are reckoned with one clock."""

    @property
    def server(self) -> str:
        """Its address."""
        return self._credentials.server

    async def close(self) -> None:
        """Let go of every connection."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = JSON,
        **params: Any,
    ) -> dict[str, Any]:
        """Make one request and return the object that is the answer.

        Raises:
            Answer: It was refused.
            TemporaryError: There was no answer.
        """
        headers = {"Content-Type": content_type, **self._authorization()}
        try:
            response = await self._client.request(
                method,
                path,
                params=params,
                content=None if body is None else orjson.dumps(body),
                headers=headers,
                extensions=self._extensions(),
            )
        except httpx2.TransportError as error:
            raise _unanswered(method, path, error) from error
        self._note_time(response)
        found = _object(response.content)
        if response.is_error:
            raise _refusal(response, found)
        return found

    async def make(self, path: str, wanted: Any) -> dict[str, Any] | None:
        """Make an object and return it, None where one of its name is there.

        Raises:
            PermanentError: It can never be made.
            TemporaryError: Not now.
        """
        try:
            return await self.call("POST", path, body=wanted)
        except Answer as answer:
            if answer.exists_already:
                return None
            raise answer.as_ours() from answer

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, None where it is not there.

        Raises:
            TemporaryError: Not now.
        """
        return await self._if_there("GET", path)

    async def all(self, path: str, selector: str) -> list[dict[str, Any]]:
        """Return every object of a collection that bears some labels.

        Raises:
            TemporaryError: Not now.
        """
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"labelSelector": selector, "limit": _PAGE}
        while True:
            try:
                page = await self.call("GET", path, **params)
            except Answer as answer:
                raise answer.as_ours() from answer
            found += page["items"]
            more = page["metadata"].get("continue")
            if not more:
                return found
            params["continue"] = more

    async def patch(
        self, path: str, change: Any, content_type: str = MERGE
    ) -> dict[str, Any] | None:
        """Change an object and return it, None where it is not there.

        Raises:
            TemporaryError: Not now.
        """
        return await self._if_there("PATCH", path, body=change, content_type=content_type)

    async def remove(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Remove an object; a missing one is success.

        Raises:
            TemporaryError: Not now.
        """
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._if_there("DELETE", path, body=options)

    async def _if_there(self, method: str, path: str, **more: Any) -> dict[str, Any] | None:
        try:
            return await self.call(method, path, **more)
        except Answer as answer:
            if answer.is_gone:
                return None
            raise answer.as_ours() from answer

    @asynccontextmanager
    async def stream(
        self, path: str, *, silence: float, **params: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that goes on, and give its bytes as they come.

        Args:
            path: What to read.
            silence: Seconds without a byte after which the connection is taken for dead.
            params: The query.

        Raises:
            Answer: It was refused.
            TemporaryError: There was no answer, or it broke off.
        """
        timeout = httpx2.Timeout(_CALL_SECONDS, connect=_CONNECT_SECONDS, read=silence)
        headers = {"Accept-Encoding": "identity", **self._authorization()}
        try:
            async with self._client.stream(
                "GET",
                path,
                params=params,
                headers=headers,
                timeout=timeout,
                extensions=self._extensions(),
            ) as response:
                self._note_time(response)
                if response.is_error:
                    raise _refusal(response, _object(await response.aread()))
                yield response.aiter_raw()
        except httpx2.TransportError as error:
            raise _unanswered("GET", path, error) from error

    def _authorization(self) -> dict[str, str]:
        token = self._credentials.token()
        return {} if token is None else {"Authorization": token}

    def _extensions(self) -> dict[str, Any]:
        name = self._credentials.server_name
        return {} if name is None else {"sni_hostname": name}

    def _note_time(self, response: httpx2.Response) -> None:
        told = response.headers.get("date")
        if told is not None:
            self.answered_at = parsedate_to_datetime(told).astimezone(UTC)


def _unanswered(method: str, path: str, error: Exception) -> TemporaryError:
    return TemporaryError(f"No answer to {method} {path}: {type(error).__name__} {error}".strip())


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {"message": content.decode(errors="replace")}
    return found if isinstance(found, dict) else {}


def _refusal(response: httpx2.Response, found: Mapping[str, Any]) -> Answer:
    wait = response.headers.get("retry-after", "")
    return Answer(
        response.status_code,
        str(found.get("reason", response.reason_phrase)),
        str(found.get("message", "")),
        timedelta(seconds=int(wait)) if wait.isdecimal() else None,
    )
