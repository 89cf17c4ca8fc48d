"""Session tokens (JWT), CSRF tokens, and the secrets that are stored as hashes only."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, OctKey

from gateway.settings import GatewaySettings

ISSUER = "integr8s"
AUDIENCE = "integr8s-web"
KEY_PREFIX = "i8s_"
_ALGORITHM = "HS256"
_LEEWAY = timedelta(seconds=30)
_LONGEST = 2048
"""Characters of a token. Ours have some 400; nobody shall make us verify a megabyte."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid session token says. Rights are not in it: they are read from the store."""

    user_id: str
    session_id: str
    issued_at: datetime
    expires_at: datetime


class _UnknownKeyError(Exception):
    """A token names a key that is not ours."""


class Tokens:
    """Makes and checks tokens with the installation's secret."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Derive one key per purpose, so that a token of one kind is never one of another."""
        secret = settings.secret_key.get_secret_value().encode()
        self._csrf_keys = [_derived(secret, b"csrf")]
        signing = _derived(secret, b"session")
        self._kid = _kid(signing)
        self._keys = {self._kid: OctKey.import_key(signing)}
        self._name_key = _derived(secret, b"names")
        if settings.previous_secret_key is not None:
            previous = settings.previous_secret_key.get_secret_value().encode()
            older = _derived(previous, b"session")
            self._keys[_kid(older)] = OctKey.import_key(older)
            self._csrf_keys.append(_derived(previous, b"csrf"))

    def session(
        self, *, user_id: str, session_id: str, token_id: str, now: datetime, expires_at: datetime
    ) -> str:
        """Return a signed session token."""
        issued = int(now.timestamp())
        claims = {
            "sub": user_id,
            "sid": session_id,
            "jti": token_id,
            "iat": issued,
            "nbf": issued,
            "exp": int(expires_at.timestamp()),
            "iss": ISSUER,
            "aud": AUDIENCE,
        }
        header = {"alg": _ALGORITHM, "typ": "JWT", "kid": self._kid}
        return jwt.encode(header, claims, self._keys[self._kid], algorithms=[_ALGORITHM])

    def read(self, token: str, *, now: datetime) -> Claims | None:
        """Return what a token says, or None where it is not valid now."""
        claims = self.read_expired(token)
        if claims is None or now - _LEEWAY >= claims.expires_at:
            return None
        return claims if claims.issued_at <= now + _LEEWAY else None

    def read_expired(self, token: str) -> Claims | None:
        """Return what a token of ours says, however old it is; None where it is not ours."""
        if len(token) > _LONGEST:
            return None
        try:
            found = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM])
        except (JoseError, ValueError, TypeError, _UnknownKeyError):
            return None
        if found.header.get("typ") != "JWT":
            return None
        return _claims(found.claims)

    def _key_of(self, token: GuestProtocol) -> OctKey:
        kid = token.headers().get("kid")
        if not isinstance(kid, str) or kid not in self._keys:
            raise _UnknownKeyError
        return self._keys[kid]

    def csrf(self, session_id: str) -> str:
        """Return a fresh CSRF token of a session: `nonce.mac`."""
        nonce = secrets.token_urlsafe(16)
        return f"{nonce}.{_mac(self._csrf_keys[0], nonce, session_id)}"

    def is_csrf(self, token: str, session_id: str) -> bool:
        """Say whether the token was made for this session."""
        nonce, _, mac = token.partition(".")
        if not token.isascii():
            return False
        return any(
            hmac.compare_digest(mac, _mac(key, nonce, session_id)) for key in self._csrf_keys
        )

    def name_hash(self, username: str) -> str:
        """Return a name so that only this installation recognises it: people type passwords there.

        Without a key, the hash of a mistyped password could be found by trying.
        """
        return hmac.new(self._name_key, username.lower().encode(), hashlib.sha256).hexdigest()


def new_secret() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def stored_hash(secret: str) -> str:
    """Return how a secret of 256 bits is stored; it needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"integr8s " + purpose, "sha256")


def _kid(key: bytes) -> str:
    return hashlib.sha256(b"kid " + key).hexdigest()[:16]


def _mac(key: bytes, nonce: str, session_id: str) -> str:
    return hmac.new(key, f"{nonce}:{session_id}".encode(), hashlib.sha256).hexdigest()


def _claims(claims: dict[str, object]) -> Claims | None:
    texts = [claims.get(name) for name in ("sub", "sid", "jti")]
    times = [claims.get(name) for name in ("iat", "nbf", "exp")]
    if not all(isinstance(text, str) and text for text in texts):
        return None
    # `type(...) is int`: a bool is an int in Python, and no time in a token.
    if not all(type(time) is int and 0 <= time < 1 << 40 for time in times):
        return None
    if claims.get("iss") != ISSUER or claims.get("aud") != AUDIENCE:
        return None
    issued, not_before, expires = (
        datetime.fromtimestamp(time, UTC) for time in times if isinstance(time, int)
    )
    return Claims(str(texts[0]), str(texts[1]), max(issued, not_before), expires)
