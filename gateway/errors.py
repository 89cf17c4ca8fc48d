"""The one table from errors to answers: every refusal is a problem of RFC 9457."""

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.answers import dumps
from shared.domain.errors import (
    AlreadyExists,
    FieldError,
    MalformedEvent,
    Refusal,
    TemporaryError,
)
from shared.domain.problems import PROBLEMS

_LOG = logging.getLogger("gateway")
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 406: "not_acceptable", 400: "malformed"}
_DETAILS = {
    "not_found": "There is nothing under this address.",
    "method_not_allowed": "This method does not work here; the Allow header names those that do.",
    "not_acceptable": "The answer is not available in the form that was asked for.",
    "malformed": "The request cannot be read.",
    "unavailable": "A part of the service gives no answer at the moment; try again shortly.",
    "internal": "Something went wrong on our side; the log has it under the request id.",
}


class UnreadBody(Refusal):
    """A refusal before the body was read: the connection cannot carry another request."""


_NOBODY = frozenset({"unauthenticated", "bad_credentials"})
_LATER = frozenset({423, 429, 503})


def not_found(what: str = "execution") -> Refusal:
    """Return the refusal for an id that is unknown, or somebody else's: nobody can tell which."""
    return Refusal("not_found", f"There is no such {what}.")


def invalid(loc: Sequence[str | int], msg: str, kind: str = "value_error") -> Refusal:
    """Return the refusal of one field."""
    where = ".".join(str(part) for part in loc[1:]) or str(loc[0])
    return Refusal(
        "validation_failed", f"{where}: {msg}.", errors=[FieldError(tuple(loc), msg, kind)]
    )


def invalid_fields(error: ValidationError, place: str = "body") -> Refusal:
    """Return the refusal of all fields that a model found wrong. Values are never repeated."""
    errors = [
        FieldError((place, *found["loc"]), found["msg"], found["type"])
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    first = errors[0]
    where = ".".join(str(part) for part in first.loc[1:]) or place
    return Refusal("validation_failed", f"{where}: {first.msg}.", errors=errors)


def refusal_of(error: Exception) -> tuple[Refusal, Mapping[str, str]]:
    """Return what to tell the client about an error, and further headers."""
    match error:
        case Refusal():
            return error, {}
        case TemporaryError():
            return Refusal(
                "unavailable", _DETAILS["unavailable"], retry_after=error.retry_after
            ), {}
        case AlreadyExists():
            return Refusal("already_exists", "This exists already."), {}
        case MalformedEvent():
            return Refusal("malformed", f"{error}"), {}
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "malformed")
            return Refusal(code, _DETAILS[code]), dict(error.headers or {})
        case _:
            return Refusal("internal", _DETAILS["internal"]), {}


def problem(refusal: Refusal, *, request_id: str, now: datetime) -> dict[str, Any]:
    """Return the members of a problem."""
    code = refusal.code
    known = PROBLEMS[code]
    members: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": known.title,
        "status": known.status,
        "detail": refusal.detail,
        "code": code,
        "instance": request_id,
    }
    if refusal.errors:
        members["errors"] = [
            {"loc": list(one.loc), "msg": one.msg, "type": one.type} for one in refusal.errors
        ]
    if refusal.context:
        members["context"] = refusal.context
    if known.status in _LATER:
        seconds = _seconds(refusal.retry_after)
        members["retry_after"] = seconds
        members["reset_at"] = math.ceil(now.timestamp()) + seconds
    return members


def _seconds(wait: timedelta | None) -> int:
    return max(1, math.ceil(wait.total_seconds())) if wait is not None else 1


def answer(error: Exception, *, request_id: str, now: datetime) -> Response:
    """Return the answer to an error. A bug is logged under the request id and told to nobody."""
    refusal, headers = refusal_of(error)
    if refusal.code == "internal":
        _LOG.error("request %s failed", request_id, exc_info=error)
    members = problem(refusal, request_id=request_id, now=now)
    response = Response(
        dumps(members), status_code=members["status"], media_type="application/problem+json"
    )
    for name, value in headers.items():
        response.headers[name] = value
    if refusal.retry_after is not None or members["status"] in _LATER:
        response.headers["Retry-After"] = str(_seconds(refusal.retry_after))
    if refusal.code in _NOBODY:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refusal.code == "range_not_satisfiable":
        response.headers["Content-Range"] = f"bytes */{refusal.context['size']}"
    if isinstance(refusal, UnreadBody):
        response.headers["Connection"] = "close"
    return response
