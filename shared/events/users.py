"""Accounts and sign-in."""

from typing import ClassVar, Literal

from shared.events.event import Payload
from shared.events.topics import Topic


class _User(Payload):
    """Whose account."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    user_id: str


class UserRegistered(_User):
    """An account was made."""

    TYPE: ClassVar[str] = "user.registered"

    username: str
    email: str


class _SignIn(_User):
    """Which session, from where."""

    session_id: str
    method: Literal["password", "key"]
    address: str | None = None
    user_agent: str | None = None
    reason: str | None = None


class UserLoggedIn(_SignIn):
    """Somebody signed in."""

    TYPE: ClassVar[str] = "user.logged_in"


class UserLoggedOut(_SignIn):
    """Somebody signed out."""

    TYPE: ClassVar[str] = "user.logged_out"


class UserUpdated(_User):
    """An account was changed."""

    TYPE: ClassVar[str] = "user.updated"

    fields: tuple[str, ...]
    actor_id: str


class UserDeleted(_User):
    """An account was removed."""

    TYPE: ClassVar[str] = "user.deleted"

    cascade: bool
    actor_id: str


class _Credential(_User):
    """Who changed which credential."""

    actor_id: str
    session_id: str | None = None
    key_id: str | None = None


class UserPasswordChanged(_Credential):
    """A password was changed or reset."""

    TYPE: ClassVar[str] = "user.password_changed"


class UserSessionRevoked(_Credential):
    """A session was ended from elsewhere."""

    TYPE: ClassVar[str] = "user.session_revoked"


class UserKeyCreated(_Credential):
    """An API key was made."""

    TYPE: ClassVar[str] = "user.key_created"


class UserKeyRevoked(_Credential):
    """An API key was withdrawn."""

    TYPE: ClassVar[str] = "user.key_revoked"
