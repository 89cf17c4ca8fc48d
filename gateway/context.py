"""What is known of one request: its ids, where it comes from, who asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from starlette.requests import Request

from shared.domain.tracing import child_traceparent
from shared.events.event import Event, Payload

SOURCE = "/integr8s/gateway"
SCOPE_KEY = "integr8s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and by which credential."""

    user_id: str
    username: str
    role: str
    may_raise_priority: bool
    credential: Literal["session", "key"]
    credential_id: str
    """The id of the session or of the API key."""
    scopes: frozenset[str] = frozenset()
    """What the API key may do; empty for a session, which may do everything its user may."""
    expires_at: datetime
    """When the session ends unless it is renewed, or the key."""

    @property
    def is_admin(self) -> bool:
        """Say whether the rights of an administrator hold for this credential."""
        return self.role == "admin" and self._may_administrate

    @property
    def is_moderator(self) -> bool:
        """Say whether the administrator's views may be read."""
        return self.role in ("admin", "moderator") and self._may_administrate

    @property
    def _may_administrate(self) -> bool:
        return self.credential == "session" or "admin" in self.scopes

    @property
    def identity(self) -> str:
        """Return the credential as one text, e.g. `session:0190...`."""
        return f"{self.credential}:{self.credential_id}"


@dataclass(slots=True, kw_only=True)
class Context:
    """One request."""

    request_id: str
    traceparent: str
    headers: Mapping[bytes, bytes]
    """Lower-case names; of a repeated header the last one."""
    address: str
    """Where the request comes from, behind trusted proxies."""
    caller: Caller | None = None

    def header(self, name: bytes) -> str | None:
        """Return a header as text, byte for byte."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def event(self, data: Payload, *, subject: str, at: datetime, event_id: str) -> Event:
        """Return an event that this request causes."""
        return Event(
            id=event_id,
            source=SOURCE,
            subject=subject,
            time=at,
            data=data,
            correlation_id=self.request_id,
            traceparent=child_traceparent(self.traceparent, event_id),
        )


def context_of(request: Request) -> Context:
    """Return what the middleware found out about a request."""
    context: Context = request.scope[SCOPE_KEY]
    return context


def caller_of(request: Request) -> Caller:
    """Return who asks. Only on operations that need somebody: their guard saw to it."""
    caller = context_of(request).caller
    if caller is None:
        raise RuntimeError("the operation is public and has no caller")
    return caller


JsonObject = dict[str, Any]
