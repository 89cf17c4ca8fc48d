"""Reading request bodies strictly: what two parsers would read differently is refused."""

import json
from typing import Any, NoReturn, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from gateway.errors import invalid, invalid_fields
from shared.domain.errors import Refusal

_SMALL = 64 * 1024
"""Bytes of a body that holds a few short fields."""
ModelT = TypeVar("ModelT", bound=BaseModel)


class _DuplicateKeyError(ValueError):
    """An object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))


_SCANNER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str)


def parse(body: bytes) -> Any:
    """Return JSON as a value.

    Refused besides what is no JSON: bytes that are no UTF-8, NaN and infinite numbers, lone
    surrogates, nesting deeper than any request needs, and a key that stands twice in one object,
    of which one parser takes the first and another the last.

    Raises:
        Refusal: With what is wrong and where.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse(f"must be valid JSON in UTF-8 ({error})", "json_invalid")
    try:
        _SCANNER.decode(body.decode())
    except _DuplicateKeyError as error:
        _refuse(f"the key {str(error)[:64]!r} stands there twice", "json_duplicate_key")
    except (RecursionError, ValueError):
        _refuse("is nested too deeply", "json_too_deep")
    return value


def _refuse(msg: str, kind: str) -> NoReturn:
    raise invalid(("body",), msg, kind) from None


async def json_object(
    request: Request, *, required: bool = True, limit: int | None = None
) -> dict[str, Any]:
    """Return the body as a JSON object; an empty body is an empty object where none is required.

    `limit` is for operations whose bodies are small: they need not spend time on large ones.

    Raises:
        Refusal: It is no JSON, or no object, or says that it is something else.
    """
    body = await request.body()
    if not body and not required:
        return {}
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        detail = f"The body must be application/json, not {kind[:64]!r}."
        raise Refusal("unsupported_media_type", detail)
    if limit is not None and len(body) > limit:
        raise Refusal("body_too_large", f"This body may have {limit} bytes, not more.")
    value = parse(body)
    if not isinstance(value, dict):
        raise invalid(("body",), "must be a JSON object", "dict_type")
    return value


async def read(request: Request, model: type[ModelT], *, required: bool = True) -> ModelT:
    """Return the body as a model.

    Raises:
        Refusal: With every wrong field.
    """
    value = await json_object(request, required=required, limit=_SMALL)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_fields(error) from None


def query(request: Request, model: type[ModelT]) -> ModelT:
    """Return the query of the address as a model; unknown names are ignored.

    Repeated names and comma lists both make a list, where the model wants one.

    Raises:
        Refusal: With every wrong field.
    """
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        given = request.query_params.getlist(name)
        if not given:
            continue
        is_list = "list" in str(field.annotation) or "tuple" in str(field.annotation)
        parts = [part.strip() for one in given for part in one.split(",")]
        values[name] = [part for part in parts if part] if is_list else given[-1]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(error, "query") from None
