"""Users with API keys, written before the server starts: signing in costs a slow hash each."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.tokens import KEY_PREFIX, new_secret, stored_hash
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.ports.collections import COLLECTIONS


@dataclass(frozen=True, slots=True)
class User:
    """One who may execute."""

    user_id: str
    key: str


def _make(data_dir: Path) -> None:
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


async def add(data_dir: Path, count: int) -> list[User]:
    """Add users to the data directory of a system that is stopped, or was never started."""
    _make(data_dir)
    clock, ids = SystemClock(), SystemIds()
    store = SqliteStore(data_dir / "integr8s.db")
    users = SqliteDocuments(store, COLLECTIONS["users"], clock)
    keys = SqliteDocuments(store, COLLECTIONS["api_keys"], clock)
    now = clock.now()
    made = []
    for _ in range(count):
        user = User(ids.new(), KEY_PREFIX + new_secret())
        name = f"bench-{user.user_id}"
        account = {
            "user_id": user.user_id,
            "username": name,
            "username_key": name,
            "email": f"{name}@bench.invalid",
            "email_key": f"{name}@bench.invalid",
            "role": "user",
            "is_active": True,
            "may_raise_priority": False,
            "password_hash": "none",
            "last_login_at": None,
            "last_activity_at": None,
            "created_at": now,
            "updated_at": now,
        }
        await users.insert(user.user_id, account)
        key_id = ids.new()
        key = {
            "key_id": key_id,
            "user_id": user.user_id,
            "name": "bench",
            "prefix": user.key[:12],
            "key_hash": stored_hash(user.key),
            "scopes": ["execute", "read"],
            "created_at": now,
            "expires_at": now + timedelta(days=1),
            "last_used_at": None,
            "last_used_address": None,
        }
        await keys.insert(key_id, key)
        made.append(user)
    await store.close()
    return made
