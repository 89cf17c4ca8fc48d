"""The API key by which commands of this user reach the system on the same machine."""

import os
from datetime import timedelta
from pathlib import Path

from gateway.accounts import key_of
from gateway.context import SOURCE
from gateway.ports import GatewayPorts
from gateway.tokens import KEY_PREFIX, new_secret, stored_hash
from shared.domain.tracing import new_traceparent
from shared.events.event import Event
from shared.events.users import UserKeyCreated
from shared.ports.documents import Document

NAME = "command line of this machine"
SCOPES = ("admin", "alerts", "cloudevents", "execute", "read", "scripts")
_LIFE = timedelta(days=365)
_RENEW = timedelta(days=30)
"""Time left below which a start makes a new key."""
_PREFIX_CHARACTERS = 12


async def ensure(ports: GatewayPorts, path: Path, *, username: str) -> bool:
    """Leave a valid key of an administrator in a file of this user; say whether there is one.

    A key that is missing, revoked, about to expire, or whose owner is no active administrator any
    more is replaced by a new one.
    """
    owner = await _administrator(ports, username)
    if owner is None:
        _remove(path)
        return False
    if not await _holds(ports, path, owner):
        await _replace(ports, path, owner)
    return True


async def _administrator(ports: GatewayPorts, username: str) -> Document | None:
    """Return the first administrator, else any other."""
    active = {"role": "admin", "is_active": True}
    for where in ({**active, "username_key": key_of(username)}, active):
        found = await ports.users.find(where, limit=1)
        if found:
            return found[0]
    return None


async def _holds(ports: GatewayPorts, path: Path, owner: Document) -> bool:
    secret = _read(path)
    if secret is None:
        return False
    found = await ports.api_keys.find({"key_hash": stored_hash(secret)}, limit=1)
    if not found or found[0].get("revoked_at") or found[0]["user_id"] != owner["user_id"]:
        return False
    return bool(found[0]["expires_at"] - ports.clock.now() > _RENEW)


async def _replace(ports: GatewayPorts, path: Path, owner: Document) -> None:
    now, user_id = ports.clock.now(), owner["user_id"]
    for older in await ports.api_keys.find({"user_id": user_id, "name": NAME}):
        await ports.api_keys.change(
            older["key_id"], when={"revoked_at": None}, set={"revoked_at": now}
        )
    key_id, secret = ports.ids.new(), KEY_PREFIX + new_secret()
    document = {
        "key_id": key_id,
        "user_id": user_id,
        "name": NAME,
        "prefix": secret[:_PREFIX_CHARACTERS],
        "key_hash": stored_hash(secret),
        "scopes": list(SCOPES),
        "created_at": now,
        "expires_at": now + _LIFE,
        "last_used_at": None,
        "last_used_address": None,
    }
    event_id = ports.ids.new()
    event = Event(
        id=event_id,
        source=SOURCE,
        subject=user_id,
        time=now,
        data=UserKeyCreated(user_id=user_id, actor_id=user_id, key_id=key_id),
        correlation_id=event_id,
        traceparent=new_traceparent(event_id),
    )
    await ports.api_keys.insert(key_id, document, emit=[event])
    await ports.api_keys.flush()
    _write(path, secret)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _write(path: Path, secret: str) -> None:
    """Write the key so that nobody else can read it, at no moment."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secret + "\n")
    fresh.replace(path)
