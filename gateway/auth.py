"""Who asks: sessions by cookie, API keys by header, and how both are revoked."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from gateway.context import Caller, Context
from gateway.settings import GatewaySettings
from gateway.tokens import KEY_PREFIX, Claims, Tokens, stored_hash
from shared.domain.errors import Refusal, TemporaryError
from shared.events.event import Event
from shared.events.security import AccessDenied, CsrfFailed
from shared.ports.clock import Clock
from shared.ports.documents import Document, Documents
from shared.ports.ids import Ids
from shared.ports.publisher import Publisher
from shared.ports.signals import Signals

ACCESS_COOKIE = "access_token"
CSRF_COOKIE = "csrf_token"
REVOKED_CHANNEL = "auth:revoked"
"""Where every gateway process hears of a credential that ended, as `session:{id}` and the like."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NEVER = datetime.max.replace(tzinfo=UTC)
_CACHED = 10_000
_SEEN = timedelta(seconds=60)
"""How exactly the last use of a credential is recorded."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that began or was renewed, with what the browser is to keep."""

    session_id: str
    token: str
    csrf_token: str
    expires_at: datetime


@dataclass(slots=True)
class _Checked:
    """A credential that was checked a moment ago."""

    caller: Caller
    until: float
    token_expires_at: datetime | None = None


class Identities:
    """Knows callers by their credentials."""

    def __init__(
        self,
        *,
        users: Documents,
        sessions: Documents,
        api_keys: Documents,
        signals: Signals,
        publisher: Publisher,
        clock: Clock,
        ids: Ids,
        tokens: Tokens,
        settings: GatewaySettings,
    ) -> None:
        """Start with nobody known."""
        self._users = users
        self._sessions = sessions
        self._api_keys = api_keys
        self._signals = signals
        self._publisher = publisher
        self._clock = clock
        self._ids = ids
        self._tokens = tokens
        self._settings = settings
        self._trust = settings.credential_cache.total_seconds()
        self._checked: dict[str, _Checked] = {}

    async def identify(self, context: Context) -> Caller | None:
        """Return who asks, or None where there is no credential, or none that holds.

        Raises:
            Refusal: The Authorization header holds something that is no API key of ours.
            TemporaryError: The store gave no answer.
        """
        authorization = context.headers.get(b"authorization")
        if authorization is not None:
            return await self._by_header(authorization.decode("latin-1"), context)
        token = cookie(context, ACCESS_COOKIE)
        if token is None:
            return None
        known = self._recall(token)
        if known is not None and self._clock.now() < (known.token_expires_at or _NEVER):
            return known.caller
        claims = self._tokens.read(token, now=self._clock.now())
        if claims is None:
            return None
        caller = await self.by_session(claims.session_id, context.address)
        if caller is None or caller.user_id != claims.user_id:
            return None
        self._remember(token, caller, claims.expires_at)
        return caller

    async def by_identity(self, identity: str) -> Caller | None:
        """Return the caller behind `session:{id}` or `key:{id}`, asked afresh; None if it ended."""
        kind, _, credential_id = identity.partition(":")
        if kind == "session":
            return await self.by_session(credential_id, None)
        document = await self._api_keys.get(credential_id)
        return None if document is None else await self._by_key(document, None)

    async def by_session(self, session_id: str, address: str | None) -> Caller | None:
        """Return the caller of a session that lives, and note that it was seen."""
        session = await self._sessions.get(session_id)
        now = self._clock.now()
        if session is None or session.get("revoked_at") or session["expires_at"] <= now:
            return None
        user = await self._active_user(session["user_id"])
        if user is None:
            return None
        if address is not None and now - session["last_seen_at"] >= _SEEN:
            await self._sessions.change(session_id, set={"last_seen_at": now})
        return _caller(user, "session", session_id, expires_at=session["expires_at"])

    async def _by_header(self, value: str, context: Context) -> Caller | None:
        scheme, _, key = value.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key.startswith(KEY_PREFIX):
            detail = "The Authorization header takes an API key: Bearer i8s_..."
            raise Refusal("unauthenticated", detail)
        known = self._recall(key)
        if known is not None and self._clock.now() < known.caller.expires_at:
            return known.caller
        found = await self._api_keys.find({"key_hash": stored_hash(key)}, limit=1)
        caller = await self._by_key(found[0], context.address) if found else None
        if caller is not None:
            self._remember(key, caller)
        return caller

    async def _by_key(self, document: Document, address: str | None) -> Caller | None:
        now = self._clock.now()
        if document.get("revoked_at") or document["expires_at"] <= now:
            return None
        user = await self._active_user(document["user_id"])
        if user is None:
            return None
        last = document.get("last_used_at")
        if address is not None and (last is None or now - last >= _SEEN):
            used = {"last_used_at": now, "last_used_address": address}
            await self._api_keys.change(document["key_id"], set=used)
        return _caller(
            user,
            "key",
            document["key_id"],
            scopes=frozenset(document["scopes"]),
            expires_at=document["expires_at"],
        )

    async def _active_user(self, user_id: str) -> Document | None:
        user = await self._users.get(user_id)
        return user if user is not None and user["is_active"] else None

    def _recall(self, secret: str) -> _Checked | None:
        found = self._checked.get(secret)
        if found is None:
            return None
        if found.until <= self._clock.monotonic():
            del self._checked[secret]
            return None
        return found

    def _remember(
        self, secret: str, caller: Caller, token_expires_at: datetime | None = None
    ) -> None:
        if len(self._checked) >= _CACHED:
            self._checked.clear()
        until = self._clock.monotonic() + self._trust
        self._checked[secret] = _Checked(caller, until, token_expires_at)

    def forget(self, identity: str) -> None:
        """Ask the store again about a credential, or about all of a user: `user:{id}`."""
        kind, _, value = identity.partition(":")
        for secret, one in list(self._checked.items()):
            is_theirs = kind == "user" and one.caller.user_id == value
            if is_theirs or one.caller.identity == identity:
                del self._checked[secret]

    async def revoked(self, identity: str) -> None:
        """Make a credential end here now, and in the other processes as soon as they hear of it."""
        self.forget(identity)
        try:
            await self._signals.publish(REVOKED_CHANNEL, identity.encode())
        except TemporaryError:
            # The others notice when their short cache runs out.
            return

    async def begin_session(
        self, user: Mapping[str, Any], context: Context, *, emit: Event, session_id: str
    ) -> Session:
        """Store a session of a user who just proved who they are."""
        now = self._clock.now()
        expires_at = now + self._settings.session_time
        agent = (context.header(b"user-agent") or "")[:512]
        document = {
            "session_id": session_id,
            "user_id": user["user_id"],
            "created_at": now,
            "last_seen_at": now,
            "expires_at": expires_at,
            "address": context.address,
            "user_agent": agent,
        }
        await self._sessions.insert(session_id, document, emit=[emit])
        return self._issue(user["user_id"], session_id, self._tokens.csrf(session_id), expires_at)

    async def renewed(self, caller: Caller, context: Context) -> Session | None:
        """Renew a session of which half is over, unless it is at its very end.

        The session keeps its id and its CSRF token, and the old token stays valid until it expires:
        an answer that is lost, or a second tab, signs nobody out.
        """
        token = cookie(context, ACCESS_COOKIE)
        if caller.credential != "session" or token is None:
            return None
        now = self._clock.now()
        half = self._settings.session_time / 2
        expires = self._token_expiry(token)
        if expires is None or expires - now > half:
            return None
        session = await self._sessions.get(caller.credential_id)
        if session is None or session.get("revoked_at"):
            return None
        longest = session["created_at"] + self._settings.session_longest
        until = min(now + self._settings.session_time, longest)
        if until - expires < timedelta(minutes=1):
            return None
        if session["expires_at"] < until:
            when = {"revoked_at": None}
            await self._sessions.change(caller.credential_id, when=when, set={"expires_at": until})
            self.forget(caller.identity)
        csrf = cookie(context, CSRF_COOKIE) or ""
        if not self._tokens.is_csrf(csrf, caller.credential_id):
            csrf = self._tokens.csrf(caller.credential_id)
        return self._issue(caller.user_id, caller.credential_id, csrf, until)

    def _token_expiry(self, token: str) -> datetime | None:
        known = self._checked.get(token)
        if known is not None:
            return known.token_expires_at
        claims = self._tokens.read(token, now=self._clock.now())
        return None if claims is None else claims.expires_at

    def _issue(
        self, user_id: str, session_id: str, csrf_token: str, expires_at: datetime
    ) -> Session:
        token = self._tokens.session(
            user_id=user_id,
            session_id=session_id,
            token_id=self._ids.new(),
            now=self._clock.now(),
            expires_at=expires_at,
        )
        return Session(session_id, token, csrf_token, expires_at)

    async def end_session(self, session_id: str, *, emit: Event) -> bool:
        """Revoke a session; say whether it was alive."""
        changed = await self._sessions.change(
            session_id,
            when={"revoked_at": None},
            set={"revoked_at": self._clock.now()},
            emit=[emit],
        )
        await self.revoked(f"session:{session_id}")
        return changed is not None

    def claims(self, context: Context) -> Claims | None:
        """Return what the session cookie says, even if it expired; None where it is not ours."""
        token = cookie(context, ACCESS_COOKIE)
        return None if token is None else self._tokens.read_expired(token)

    async def check_csrf(
        self, method: str, context: Context, *, session_id: str, user_id: str
    ) -> None:
        """Refuse a change that another site may have caused.

        Raises:
            Refusal: The token is missing, not the cookie's, or not of this session.
        """
        if method in _SAFE_METHODS:
            return
        header = context.header(b"x-csrf-token") or ""
        kept = cookie(context, CSRF_COOKIE) or ""
        if (
            header
            and hmac.compare_digest(header.encode("latin-1"), kept.encode("utf-8", "replace"))
            and self._tokens.is_csrf(header, session_id)
            and not self.is_cross_site(context)
        ):
            return
        await self._say_refused(CsrfFailed, context, user_id=user_id, action=method)
        detail = "Send the value of the cookie csrf_token in the header X-CSRF-Token."
        raise Refusal("csrf_failed", detail)

    def is_cross_site(self, context: Context) -> bool:
        """Say whether a browser tells that a page of another, unlisted site sent the request."""
        if context.headers.get(b"sec-fetch-site") != b"cross-site":
            return False
        return context.header(b"origin") not in self._settings.cors_origins

    async def say_denied(self, context: Context, caller: Caller, *, resource: str) -> None:
        """Let auditors know that somebody known asked for what is not theirs."""
        await self._say_refused(
            AccessDenied, context, user_id=caller.user_id, resource=resource, action="call"
        )

    async def _say_refused(
        self,
        kind: type[CsrfFailed | AccessDenied],
        context: Context,
        *,
        user_id: str,
        action: str,
        resource: str | None = None,
    ) -> None:
        data = kind(user_id=user_id, address=context.address, action=action, resource=resource)
        event = context.event(data, subject=user_id, at=self._clock.now(), event_id=self._ids.new())
        await self.say(event)

    async def say(self, event: Event) -> None:
        """Publish what goes with no change of a document; a deaf log refuses nobody."""
        try:
            await self._publisher.publish([event])
        except TemporaryError:
            return

    def cookies(self, session: Session) -> list[str]:
        """Return the two cookies of a session as header values."""
        age = max(0, int((session.expires_at - self._clock.now()).total_seconds()))
        return [
            self._cookie(ACCESS_COOKIE, session.token, age, readable=False),
            self._cookie(CSRF_COOKIE, session.csrf_token, age, readable=True),
        ]

    def no_cookies(self) -> list[str]:
        """Return header values that remove both cookies."""
        return [
            self._cookie(ACCESS_COOKIE, "", 0, readable=False),
            self._cookie(CSRF_COOKIE, "", 0, readable=True),
        ]

    def _cookie(self, name: str, value: str, age: int, *, readable: bool) -> str:
        parts = [f"{name}={value}", "Path=/", f"Max-Age={age}", "SameSite=Strict"]
        if self._settings.secure_cookies:
            parts.append("Secure")
        if not readable:
            parts.append("HttpOnly")
        return "; ".join(parts)


def cookie(context: Context, name: str) -> str | None:
    """Return a cookie that the client sent; of two with one name neither, it may be planted."""
    header = context.header(b"cookie")
    if header is None:
        return None
    found = [
        value.strip().strip('"')
        for part in header.split(";")
        for key, _, value in [part.partition("=")]
        if key.strip() == name
    ]
    return found[0] if len(found) == 1 and found[0] else None


def _caller(
    user: Mapping[str, Any],
    credential: Literal["session", "key"],
    credential_id: str,
    *,
    expires_at: datetime,
    scopes: frozenset[str] = frozenset(),
) -> Caller:
    return Caller(
        user_id=user["user_id"],
        username=user["username"],
        role=user["role"],
        may_raise_priority=bool(user.get("may_raise_priority", False)),
        credential=credential,
        credential_id=credential_id,
        scopes=scopes,
        expires_at=expires_at,
    )
