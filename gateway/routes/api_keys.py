"""API keys: for programs, so that they need no password."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.answers import Json, no_content
from gateway.bodies import read
from gateway.context import caller_of, context_of
from gateway.errors import not_found
from gateway.operations import Access, Operation
from gateway.services import Services
from gateway.tokens import KEY_PREFIX, new_secret, stored_hash
from shared.domain.errors import Refusal
from shared.domain.identifiers import is_uuid
from shared.events.users import UserKeyCreated, UserKeyRevoked
from shared.ports.documents import Document

KEYS_PER_USER = 20
_PREFIX_LENGTH = 12


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations. None takes a key: a key could make itself immortal."""
    ports = services.ports

    async def _valid(user_id: str) -> list[Document]:
        now = ports.clock.now()
        found = await ports.api_keys.find({"user_id": user_id}, sort=[("user_id", 1)])
        return [key for key in found if not key.get("revoked_at") and key["expires_at"] > now]

    async def create(request: Request) -> Response:
        context, caller = context_of(request), caller_of(request)
        wanted = await read(request, schemas.KeyBody)
        if "admin" in wanted.scopes and not caller.is_admin:
            raise Refusal("forbidden", "The scope admin is for administrators.")
        if len(await _valid(caller.user_id)) >= KEYS_PER_USER:
            detail = f"You have {KEYS_PER_USER} API keys already; revoke one first."
            raise Refusal("validation_failed", detail, context={"limit": KEYS_PER_USER})
        key_id, now = ports.ids.new(), ports.clock.now()
        secret = KEY_PREFIX + new_secret()
        document = {
            "key_id": key_id,
            "user_id": caller.user_id,
            "name": wanted.name,
            "prefix": secret[:_PREFIX_LENGTH],
            "key_hash": stored_hash(secret),
            "scopes": sorted(set(wanted.scopes)),
            "created_at": now,
            "expires_at": now + timedelta(days=wanted.expires_in_days),
            "last_used_at": None,
            "last_used_address": None,
        }
        data = UserKeyCreated(user_id=caller.user_id, actor_id=caller.user_id, key_id=key_id)
        event = context.event(data, subject=caller.user_id, at=now, event_id=ports.ids.new())
        await ports.api_keys.insert(key_id, document, emit=[event])
        shown = {name: document[name] for name in ("key_id", "name", "prefix", "scopes")}
        return Json({**shown, "key": secret, "expires_at": document["expires_at"]})

    async def show(request: Request) -> Response:
        keys = await _valid(caller_of(request).user_id)
        keys.sort(key=lambda key: (key["created_at"], key["key_id"]))
        return Json({"api_keys": [_key_object(key) for key in keys]})

    async def revoke(request: Request) -> Response:
        context, caller = context_of(request), caller_of(request)
        key_id, now = request.path_params["key_id"], ports.clock.now()
        if not is_uuid(key_id):
            raise not_found("API key")
        data = UserKeyRevoked(user_id=caller.user_id, actor_id=caller.user_id, key_id=key_id)
        revoked = await ports.api_keys.change(
            key_id,
            when={"user_id": caller.user_id, "revoked_at": None},
            set={"revoked_at": now},
            emit=[context.event(data, subject=caller.user_id, at=now, event_id=ports.ids.new())],
        )
        if revoked is None:
            raise not_found("API key")
        await services.identities.revoked(f"key:{key_id}")
        return no_content()

    return [
        Operation(
            method="POST",
            path="/api-keys",
            endpoint=create,
            access=Access.USER,
            summary="Make an API key. It is shown this once",
            body=schemas.KeyBody,
            answer=schemas.NewKey,
            refusals=(415, 422),
        ),
        Operation(
            method="GET",
            path="/api-keys",
            endpoint=show,
            access=Access.USER,
            summary="One's API keys, without their secrets",
            answer=schemas.Keys,
        ),
        Operation(
            method="DELETE",
            path="/api-keys/{key_id}",
            endpoint=revoke,
            access=Access.USER,
            summary="Revoke an API key; it is refused from the next request on",
            status=204,
            refusals=(404,),
        ),
    ]


def _key_object(key: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key_id": key["key_id"],
        "name": key["name"],
        "prefix": key["prefix"],
        "scopes": key["scopes"],
        "created_at": key["created_at"],
        "expires_at": key["expires_at"],
        "last_used_at": key.get("last_used_at"),
        "last_used_address": key.get("last_used_address"),
    }
