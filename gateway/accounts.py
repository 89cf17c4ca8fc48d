"""Accounts: how they are made, and what a sign-in leaves behind."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gateway.context import SOURCE, Context
from gateway.errors import invalid
from gateway.passwords import Passwords
from gateway.ports import GatewayPorts
from gateway.schemas import Registration
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tokens import new_secret
from shared.domain.errors import AlreadyExists, Refusal
from shared.domain.tracing import new_traceparent
from shared.events.event import Event
from shared.events.users import UserRegistered
from shared.ports.documents import Document

_KNOWN_PLACE = timedelta(days=30)
"""How long an address counts as one where the owner signs in."""


def key_of(name: str) -> str:
    """Return a name or an e-mail address as it is unique: without case."""
    return name.lower()


async def register(services: Services, context: Context, wanted: Registration) -> Document:
    """Make an account.

    Raises:
        Refusal: The name or the address is taken, or the password is too easy.
    """
    ports = services.ports
    _refuse_password(wanted, services.settings)
    await _refuse_taken(ports, wanted)
    user_id, now = ports.ids.new(), ports.clock.now()
    document = {
        **_account(wanted.username, wanted.email, role="user"),
        "user_id": user_id,
        "password_hash": await services.passwords.hash(wanted.password),
        "created_at": now,
        "updated_at": now,
    }
    data = UserRegistered(user_id=user_id, username=wanted.username, email=wanted.email)
    event = context.event(data, subject=user_id, at=now, event_id=ports.ids.new())
    try:
        return await ports.users.insert(user_id, document, emit=[event])
    except AlreadyExists:
        await _refuse_taken(ports, wanted)
        raise


def _account(username: str, email: str, *, role: str) -> dict[str, Any]:
    return {
        "username": username,
        "username_key": key_of(username),
        "email": email,
        "email_key": key_of(email),
        "role": role,
        "is_active": True,
        "may_raise_priority": False,
        "last_login_at": None,
        "last_activity_at": None,
    }


def _refuse_password(wanted: Registration, settings: GatewaySettings) -> None:
    password, loc = wanted.password, ("body", "password")
    least = settings.password_min_length
    if len(password) < least:
        raise invalid(loc, f"at least {least} characters", "string_too_short")
    if password.lower() in (wanted.username.lower(), wanted.email.lower()):
        raise invalid(loc, "must not be the username or the e-mail address")
    if password in settings.refused_passwords:
        raise invalid(loc, "is on the list of passwords that are too common")


async def _refuse_taken(ports: GatewayPorts, wanted: Registration) -> None:
    if await ports.users.count({"username_key": key_of(wanted.username)}, limit=1):
        raise Refusal("already_exists", "This username is taken.")
    if await ports.users.count({"email_key": key_of(wanted.email)}, limit=1):
        raise Refusal("already_exists", "There is an account with this e-mail address.")


async def note_sign_in(services: Services, user: Mapping[str, Any], password: str) -> None:
    """Record the time, and store the password at today's cost if its hash is from cheaper days."""
    now = services.ports.clock.now()
    changes: dict[str, Any] = {"last_login_at": now, "last_activity_at": now}
    if services.passwords.is_outdated(user["password_hash"]):
        changes["password_hash"] = await services.passwords.hash(password)
    # The password may have been changed while it was checked: that change wins.
    when = {"password_hash": user["password_hash"]}
    await services.ports.users.change(user["user_id"], when=when, set=changes)


async def has_signed_in_from(
    services: Services, user: Mapping[str, Any] | None, address: str
) -> bool:
    """Say whether the owner of a name signed in from an address within the last days."""
    if user is None:
        return False
    ports = services.ports
    where = {
        "user_id": user["user_id"],
        "address": address,
        "created_at": {"$gte": ports.clock.now() - _KNOWN_PLACE},
    }
    return bool(await ports.sessions.count(where, limit=1))


async def bootstrap_admin(ports: GatewayPorts, settings: GatewaySettings) -> str | None:
    """Make the administrator at the first start; return the password if one was invented.

    A later start changes nothing, whatever the settings say by then.
    """
    if await ports.users.count({"role": "admin"}, limit=1):
        return None
    given = settings.admin_password
    password = given.get_secret_value() if given is not None else new_secret()[:20]
    passwords = Passwords(settings)
    try:
        password_hash = await passwords.hash(password)
    finally:
        passwords.close()
    user_id, now = ports.ids.new(), ports.clock.now()
    document = {
        **_account(settings.admin_username, settings.admin_email, role="admin"),
        "user_id": user_id,
        "password_hash": password_hash,
        "created_at": now,
        "updated_at": now,
    }
    event_id = ports.ids.new()
    event = Event(
        id=event_id,
        source=SOURCE,
        subject=user_id,
        time=now,
        data=UserRegistered(
            user_id=user_id, username=settings.admin_username, email=settings.admin_email
        ),
        correlation_id=event_id,
        traceparent=new_traceparent(event_id),
    )
    try:
        await ports.users.insert(user_id, document, emit=[event])
    except AlreadyExists:
        # Another process was first.
        return None
    await ports.users.flush()
    return None if given is not None else password
