"""Register, sign in, sign out."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway import accounts, schemas
from gateway.answers import Json
from gateway.auth import ACCESS_COOKIE, cookie
from gateway.bodies import read
from gateway.context import Context, caller_of, context_of
from gateway.errors import invalid_fields
from gateway.operations import Access, Operation
from gateway.services import Services
from shared.domain.errors import Refusal
from shared.events.security import AccountLocked, AuthFailed
from shared.events.users import UserLoggedIn, UserLoggedOut
from shared.ports.documents import Document

_FORM_BYTES = 16 * 1024
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports, identities = services.ports, services.identities

    async def register(request: Request) -> Response:
        wanted = await read(request, schemas.Registration)
        user = await accounts.register(services, context_of(request), wanted)
        return Json(user_object(user))

    async def login(request: Request) -> Response:
        context = context_of(request)
        if identities.is_cross_site(context):
            raise Refusal("csrf_failed", "Sign in from a page of this site.")
        form = await _form(request)
        user = await _checked_user(services, context, form)
        session_id, now = ports.ids.new(), ports.clock.now()
        data = UserLoggedIn(
            user_id=user["user_id"],
            session_id=session_id,
            method="password",
            address=context.address,
            user_agent=(context.header(b"user-agent") or "")[:512],
        )
        event = context.event(data, subject=user["user_id"], at=now, event_id=ports.ids.new())
        session = await identities.begin_session(user, context, emit=event, session_id=session_id)
        await accounts.note_sign_in(services, user, form.password)
        answer = Json(
            {
                "message": "You are signed in.",
                "username": user["username"],
                "role": user["role"],
                "csrf_token": session.csrf_token,
            }
        )
        return _with_cookies(answer, identities.cookies(session))

    async def logout(request: Request) -> Response:
        context = context_of(request)
        if cookie(context, ACCESS_COOKIE) is not None:
            await _end_session(services, context)
        return _with_cookies(Json({"message": "You are signed out."}), identities.no_cookies())

    async def me(request: Request) -> Response:
        caller = caller_of(request)
        user = await ports.users.get(caller.user_id)
        if user is None:
            raise Refusal("unauthenticated", "This account is gone.")
        return Json(user_object(user))

    return [
        Operation(
            method="POST",
            path="/auth/login",
            endpoint=login,
            access=Access.PUBLIC,
            summary="Sign in: sets the cookies access_token and csrf_token",
            form=schemas.LoginForm,
            answer=schemas.SignedIn,
            refusals=(401, 403, 415, 422, 423),
        ),
        Operation(
            method="POST",
            path="/auth/register",
            endpoint=register,
            access=Access.PUBLIC,
            summary="Make an account",
            body=schemas.Registration,
            answer=schemas.User,
            refusals=(409, 415, 422),
        ),
        Operation(
            method="GET",
            path="/auth/me",
            endpoint=me,
            access=Access.USER,
            scopes=frozenset({"read", "execute"}),
            summary="Who is signed in",
            answer=schemas.User,
        ),
        Operation(
            method="POST",
            path="/auth/logout",
            endpoint=logout,
            access=Access.PUBLIC,
            summary="Sign out: ends the session, removes the cookies",
            answer=schemas.Said,
            refusals=(401, 403),
        ),
    ]


def user_object(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return an account as clients see it."""
    return {
        "user_id": user["user_id"],
        "username": user["username"],
        "email": user["email"],
        "role": user["role"],
        "is_active": user["is_active"],
        "is_superuser": user["role"] == "admin",
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "last_login_at": user.get("last_login_at"),
        "bypass_rate_limit": None,
        "global_multiplier": None,
        "has_custom_limits": None,
    }


def _with_cookies(answer: Response, cookies: list[str]) -> Response:
    for one in cookies:
        answer.headers.append("set-cookie", one)
    return answer


async def _form(request: Request) -> schemas.LoginForm:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        raise Refusal("unsupported_media_type", f"Send the form as {_FORMS[0]}.")
    if len(await request.body()) > _FORM_BYTES:
        raise Refusal("body_too_large", f"The form may have {_FORM_BYTES} bytes, not more.")
    try:
        async with request.form(max_files=0, max_fields=20) as form:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
    except HTTPException:
        raise Refusal("malformed", "The form cannot be read.") from None
    try:
        return schemas.LoginForm.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def _checked_user(services: Services, context: Context, form: schemas.LoginForm) -> Document:
    """Return the user whom name and password prove.

    Unknown name, wrong password and locked name take the same way through the same checks, so
    neither the answer nor its time tells which names exist.
    """
    name_hash = services.tokens.name_hash(form.username)
    async with services.lockout.turn(name_hash, context.address):
        found = await services.ports.users.find(
            {"username_key": accounts.key_of(form.username)}, limit=1
        )
        user = found[0] if found else None
        await _refuse_locked(services, context, name_hash, user)
        stored = user["password_hash"] if user is not None else None
        if not await services.passwords.verify(form.password, stored) or user is None:
            await _refuse_failed(services, context, name_hash)
        else:
            await services.lockout.succeeded(name_hash, context.address)
            if not user["is_active"]:
                raise Refusal("account_disabled", "This account is disabled.")
            return user
    raise Refusal("bad_credentials", "The username or the password is wrong.")


async def _refuse_locked(
    services: Services, context: Context, name_hash: str, user: Document | None
) -> None:
    lockout = services.lockout
    locked = await lockout.is_locked(name_hash, context.address)
    if not locked and await lockout.is_name_locked(name_hash):
        locked = not await accounts.has_signed_in_from(services, user, context.address)
    if locked:
        raise _locked(services)


def _locked(services: Services) -> Refusal:
    minutes = services.lockout.wait.total_seconds() / 60
    detail = f"Too many failed sign-ins; wait {minutes:g} minutes."
    return Refusal("account_locked", detail, retry_after=services.lockout.wait)


async def _refuse_failed(services: Services, context: Context, name_hash: str) -> None:
    """Count a failure and say so; the one that locks already answers as locked."""
    ports, identities = services.ports, services.identities
    now = ports.clock.now()
    is_locked = await services.lockout.failed(name_hash, context.address)
    failed = AuthFailed(username_hash=name_hash, reason="bad_credentials", address=context.address)
    await identities.say(context.event(failed, subject=name_hash, at=now, event_id=ports.ids.new()))
    if not is_locked:
        return
    locked = AccountLocked(
        username_hash=name_hash, address=context.address, until=now + services.lockout.wait
    )
    await identities.say(context.event(locked, subject=name_hash, at=now, event_id=ports.ids.new()))
    raise _locked(services)


async def _end_session(services: Services, context: Context) -> None:
    """End the session that the cookie names, even where its token has expired."""
    ports, identities = services.ports, services.identities
    claims = identities.claims(context)
    if claims is None:
        raise Refusal("unauthenticated", "The session cookie is none of ours.")
    await identities.check_csrf(
        "POST", context, session_id=claims.session_id, user_id=claims.user_id
    )
    data = UserLoggedOut(
        user_id=claims.user_id,
        session_id=claims.session_id,
        method="password",
        address=context.address,
    )
    event = context.event(
        data, subject=claims.user_id, at=ports.clock.now(), event_id=ports.ids.new()
    )
    await identities.end_session(claims.session_id, emit=event)
