"""The OpenAPI document, made from the operations and the models that they really use."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from gateway import schemas
from gateway.operations import PREFIX, Access, Operation
from shared.domain.problems import PROBLEMS

_PARAMETER = re.compile(r"\{(\w+)\}")
_REFERENCE = "#/components/schemas/{model}"
_EVERYWHERE = (429, 500, 503)
_STATUS_NAMES = {
    200: "Done",
    204: "Done, and nothing to say",
    206: "The range that was asked for",
    400: "The request cannot be read, or not now",
    401: "Nobody is signed in",
    403: "Not allowed",
    404: "Unknown, or somebody else's",
    409: "In conflict with what is there",
    413: "Too large",
    415: "A type of body that is not read",
    416: "A range beyond the end",
    422: "Fields are wrong",
    423: "Too many failed sign-ins",
    429: "Too many requests",
    500: "A bug, logged under the request id",
    503: "Not at the moment",
}
_SECURITY: Mapping[Access, list[dict[str, list[str]]]] = {
    Access.PUBLIC: [],
    Access.USER: [{"cookie": []}],
    Access.STREAM: [{"cookie": []}, {"ticket": []}],
    Access.MODERATOR: [{"cookie": []}],
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of the operations."""
    known = list(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in known:
        entry = paths.setdefault(PREFIX + operation.path, {})
        entry[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "integr8s",
            "version": "1",
            "description": "Runs scripts in isolation and tells live what happens.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(_schemas().items())),
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": "access_token"},
                "key": {"type": "http", "scheme": "bearer", "bearerFormat": "i8s_..."},
                "ticket": {"type": "apiKey", "in": "query", "name": "token"},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": _security(operation),
    }
    body = operation.body or operation.form
    if body is not None:
        kind = "application/json" if operation.body else "application/x-www-form-urlencoded"
        described["requestBody"] = {"content": {kind: {"schema": _reference(body)}}}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", f"{operation.method} {operation.path}".lower())
    return words.strip("_")


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    schemes = list(_SECURITY[operation.access])
    if operation.scopes:
        schemes.append({"key": sorted(operation.scopes)})
    return schemes


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(ref_template=_REFERENCE)
        found += [
            {"name": name, "in": "query", "required": False, "schema": shape}
            for name, shape in schema["properties"].items()
        ]
    found += [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in operation.headers.items()
    ]
    if operation.access in (Access.USER, Access.MODERATOR) and operation.method != "GET":
        text = "The value of the cookie csrf_token; needed with the session cookie"
        found.append(
            {
                "name": "X-CSRF-Token",
                "in": "header",
                "required": False,
                "description": text,
                "schema": {"type": "string"},
            }
        )
    return found


def _responses(operation: Operation) -> dict[str, Any]:
    answers = {str(operation.status): _success(operation)}
    statuses = {*operation.refusals, *_EVERYWHERE}
    if operation.access is not Access.PUBLIC:
        statuses |= {401, 403}
    if operation.body or operation.form:
        statuses.add(413)
    for status in sorted(statuses):
        description = _STATUS_NAMES[status]
        if status < 400:  # noqa: PLR2004 - not a refusal
            answers[str(status)] = {"description": description}
            continue
        schema = _reference(schemas.ProblemAnswer)
        answers[str(status)] = {
            "description": description,
            "content": {"application/problem+json": {"schema": schema}},
        }
    return answers


def _success(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _STATUS_NAMES[operation.status]}
    if isinstance(operation.answer, str):
        described["content"] = {operation.answer: {"schema": {"type": "string"}}}
    elif operation.answer is not None:
        schema = TypeAdapter(operation.answer).json_schema(ref_template=_REFERENCE)
        schema.pop("$defs", None)
        if isinstance(operation.answer, type) and issubclass(operation.answer, BaseModel):
            schema = _reference(operation.answer)
        described["content"] = {"application/json": {"schema": schema}}
    return described


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _schemas() -> dict[str, Any]:
    models = [
        model
        for model in vars(schemas).values()
        if isinstance(model, type)
        and issubclass(model, BaseModel)
        and model.__module__ == schemas.__name__
    ]
    _, defined = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE
    )
    shapes: dict[str, Any] = defined["$defs"]
    for base in ("Answer", "Body", "NewBody", "Query"):
        shapes.pop(base, None)
    shapes["ProblemAnswer"]["properties"]["code"]["enum"] = sorted(PROBLEMS)
    return shapes
