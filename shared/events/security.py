"""What an auditor wants to know."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from shared.events.event import Payload
from shared.events.topics import Topic


class _Security(Payload):
    """From where, and what was tried."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    user_id: str | None = None
    address: str | None = None


class AuthFailed(_Security):
    """A sign-in failed. The name is hashed: people type passwords into that field."""

    TYPE: ClassVar[str] = "security.auth_failed"

    username_hash: str
    reason: str


class AccountLocked(_Security):
    """Too many failures; the pair of name and address has to wait."""

    TYPE: ClassVar[str] = "security.account_locked"

    username_hash: str
    until: datetime | None = None
    actor_id: str | None = None


class AccountUnlocked(_Security):
    """An administrator lifted a lock."""

    TYPE: ClassVar[str] = "security.account_unlocked"

    username_hash: str
    actor_id: str | None = None


class _Refused(_Security):
    """What was refused."""

    rule: str | None = None
    resource: str | None = None
    action: str | None = None


class CsrfFailed(_Refused):
    """A change came without a token of its session."""

    TYPE: ClassVar[str] = "security.csrf_failed"


class AccessDenied(_Refused):
    """Somebody known asked for what is not theirs."""

    TYPE: ClassVar[str] = "security.access_denied"


class TokenInQuery(_Refused):
    """A session token stood in an address, where logs keep it."""

    TYPE: ClassVar[str] = "security.token_in_query"


class RateLimited(_Refused):
    """A caller was slowed down; said at most once a minute per caller and rule."""

    TYPE: ClassVar[str] = "security.rate_limited"


class AdminAction(_Security):
    """An administrator did something."""

    TYPE: ClassVar[str] = "security.admin_action"

    actor_id: str
    action: str
    target_type: str
    target_id: str
    changes: dict[str, Any] = Field(default_factory=dict)
    reason: str | None = None
