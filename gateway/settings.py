"""How the gateway behaves. The process entry makes one; everybody else is given it."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_KNOWN_SECRETS = ("changeme", "change-me", "secret", "your-secret-key", "insecure", "default")


def is_loopback(host: str) -> bool:
    """Say whether a listener on this host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class GatewaySettings(BaseModel):
    """Everything about the HTTP front that an installation may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    secret_key: SecretStr
    """At least 32 characters; signs session tokens and CSRF tokens."""
    previous_secret_key: SecretStr | None = None
    """The key before the last rotation: its session tokens stay valid until they expire."""
    development_mode: bool = False
    """Serves `/openapi.json`, and accepts a well-known secret key."""
    environment: str = "embedded"
    """The name of the profile, shown with every event."""
    host: str = "127.0.0.1"
    """The address that is listened on; only a loopback one may do without secure cookies."""
    secure_cookies: bool = True
    """Whether browsers send the cookies over TLS only."""

    admin_username: str = "admin"
    """The administrator that the first start makes."""
    admin_password: SecretStr | None = None
    """Its password; without one a random password is made and shown once."""
    admin_email: str = "admin@integr8s.local"
    """Its e-mail address."""

    session_time: timedelta = timedelta(minutes=60)
    """How long a session lives without use; it is renewed when half of it is over."""
    session_longest: timedelta = timedelta(hours=24)
    """The end of every session, counted from sign-in, however much it is used."""
    credential_cache: timedelta = timedelta(seconds=5)
    """How long a checked session or API key is trusted without asking the store."""
    password_min_length: int = Field(default=8, ge=8, le=128)
    """Shortest password that is accepted at registration."""
    password_cost: Literal["recommended", "least"] = "recommended"  # noqa: S105 - a cost
    """What a password hash costs; the least is for tests."""
    refused_passwords: frozenset[str] = frozenset()
    """Passwords that nobody may choose."""
    max_login_attempts: int = Field(default=5, ge=1)
    """Failures after which a name has to wait at one address."""
    max_login_attempts_of_name: int = Field(default=50, ge=1)
    """Failures over all addresses after which a name has to wait where it never signed in."""
    lockout_time: timedelta = timedelta(minutes=15)
    """How long a lock lasts, and how far apart failures may be to count together."""

    rate_limit_enabled: bool = True
    """Whether callers who ask too often are slowed down."""
    body_limit_bytes: int = 10 * 1024 * 1024
    """Largest request body."""
    body_time: timedelta = timedelta(seconds=30)
    """How long a client may take to send a request body."""
    cors_origins: frozenset[str] = frozenset()
    """Origins of other sites whose pages may call the API with the user's cookies."""
    webhook_origins: frozenset[str] = frozenset()
    """Origins that may ask for permission to post CloudEvents."""
    trusted_proxies: frozenset[str] = frozenset()
    """Addresses of proxies whose `X-Forwarded-For` is believed."""

    streams_per_user: int = Field(default=10, ge=1)
    """Open streams of a user; one more ends the oldest."""
    streams_per_administrator: int = Field(default=50, ge=1)
    """Open streams of an administrator."""
    stream_opens_per_minute: int = Field(default=100, ge=1)
    """Streams that a user may open in a minute."""
    heartbeat: timedelta = timedelta(seconds=30)
    """Longest silence on a stream; proxies commonly give up after 60 s."""
    poll: timedelta = timedelta(seconds=5)
    """How long an execution's stream is silent before its history is read again."""
    poll_without_signals: timedelta = timedelta(seconds=1)
    """The same while the signals are away."""
    stream_buffer_messages: int = Field(default=100, ge=1)
    """Unsent messages of one client before it counts as slow."""
    stream_buffer_bytes: int = 10 * 1024 * 1024
    """Unsent bytes of one client before it counts as slow."""
    stream_patience: timedelta = timedelta(seconds=1)
    """How long a write to a slow client may wait before the client is cut."""
    stream_identity_check: timedelta = timedelta(seconds=60)
    """How often an open stream asks whether its session still lives."""
    stream_gzip: bool = True
    """Whether streams are compressed where the client accepts it."""
    stream_result_patience: timedelta = timedelta(seconds=30)
    """How long after its end an execution's stream waits for the history to say so."""
    stream_longest: timedelta = timedelta(0)
    """How long a stream may be open before its client is asked to connect again; 0: as long as it
    likes. A proxy that cuts requests after a fixed time wants this to be less."""
    stream_drain: timedelta = timedelta(seconds=5)
    """How long clients may take to move elsewhere when the process shuts down."""

    compat_foreign_403: bool = False
    """Answer 403 instead of 404 for what belongs to somebody else."""
    compat_underscore_types: bool = False
    """Spell event types with `_` in answers and streams."""

    @model_validator(mode="after")
    def _refuse_weak_secrets(self) -> "GatewaySettings":
        for key in (self.secret_key, self.previous_secret_key):
            if key is not None:
                self._refuse_weak(key.get_secret_value())
        if not self.secure_cookies and not is_loopback(self.host):
            raise ValueError(
                f"secure_cookies may be off only on a loopback address, not on {self.host}"
            )
        return self

    def _refuse_weak(self, key: str) -> None:
        if len(key) < 32:  # noqa: PLR2004 - the rule itself
            raise ValueError("the secret key needs at least 32 characters")
        known = any(key.lower().startswith(start) for start in _KNOWN_SECRETS)
        if not self.development_mode and (known or len(set(key)) < 8):  # noqa: PLR2004
            raise ValueError("the secret key is a well-known sample; make a random one")
