"""Answers in JSON: instants as RFC 3339, keys as given, nothing escaped twice."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from starlette.responses import Response

from shared.domain.times import rfc3339

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def dumps(value: Any) -> bytes:
    """Return a value as JSON."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS)


class Json(Response):
    """An answer of one JSON value."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return dumps(content)


def no_content() -> Response:
    """Return the answer that has nothing to say."""
    return Response(status_code=204)


def cached(answer: Response, headers: Mapping[str, str]) -> Response:
    """Let an answer be cached; without this every answer is `no-store`."""
    for name, value in headers.items():
        answer.headers[name] = value
    return answer
