"""The catalogue of refusals for every front: machine code -> HTTP status and short name."""

from typing import NamedTuple


class Problem(NamedTuple):
    """What a code means to an HTTP client."""

    status: int
    title: str


PROBLEMS = {
    "malformed": Problem(400, "Malformed request"),
    "wrong_state": Problem(400, "Not possible in this state"),
    "unauthenticated": Problem(401, "Not signed in"),
    "bad_credentials": Problem(401, "Wrong username or password"),
    "forbidden": Problem(403, "Not allowed"),
    "csrf_failed": Problem(403, "CSRF check failed"),
    "account_disabled": Problem(403, "Account disabled"),
    "priority_not_allowed": Problem(403, "Priority not allowed"),
    "scope_missing": Problem(403, "API key lacks a scope"),
    "not_found": Problem(404, "Not found"),
    "method_not_allowed": Problem(405, "Method not allowed"),
    "not_acceptable": Problem(406, "Not acceptable"),
    "already_exists": Problem(409, "Already exists"),
    "idempotency_in_flight": Problem(409, "The first request with this key is still running"),
    "version_conflict": Problem(409, "Changed by somebody else"),
    "body_too_large": Problem(413, "Request too large"),
    "unsupported_media_type": Problem(415, "Unsupported media type"),
    "range_not_satisfiable": Problem(416, "Range not satisfiable"),
    "validation_failed": Problem(422, "Validation failed"),
    "unsupported_language": Problem(422, "Unsupported language"),
    "unsupported_version": Problem(422, "Unsupported language version"),
    "script_too_long": Problem(422, "Script too long"),
    "input_too_large": Problem(422, "Input too large"),
    "idempotency_mismatch": Problem(422, "Idempotency key used with another body"),
    "account_locked": Problem(423, "Account locked"),
    "rate_limited": Problem(429, "Too many requests"),
    "user_queue_full": Problem(429, "Too many of your executions are waiting"),
    "throttled": Problem(429, "Too many requests"),
    "internal": Problem(500, "Internal error"),
    "queue_full": Problem(503, "Queue full"),
    "unavailable": Problem(503, "Temporarily unavailable"),
}
