"""Executions: submit, look, cancel, run again."""

import base64
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.submit import handler as submit
from gateway import schemas
from gateway.answers import Json
from gateway.bodies import json_object, query, read
from gateway.context import Caller, caller_of, context_of
from gateway.errors import invalid
from gateway.executions import (
    Page,
    estimated_wait,
    event_object,
    execution_object,
    owned,
    page_of,
    result_of,
    stored_output,
)
from gateway.operations import PREFIX, Access, Operation
from gateway.services import Services
from shared.domain.errors import Refusal
from shared.domain.executions import NOT_TERMINAL, TERMINAL, Priority, Status
from shared.events.executions import ExecutionCancelRequested
from shared.ports.documents import Document

_KEY = re.compile(r"[!-~]{1,255}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_READ = frozenset({"read", "execute"})
_EXECUTE = frozenset({"execute"})


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports, settings = services.ports, services.settings

    async def _owned(request: Request) -> Document:
        return await owned(services, request.path_params["execution_id"], caller_of(request))

    async def execute(request: Request) -> Response:
        context, caller = context_of(request), caller_of(request)
        key = idempotency_key(context.header(b"idempotency-key"))
        accepted = await submit.submit(
            submit.Request(
                body=await json_object(request),
                user_id=caller.user_id,
                may_raise_priority=may_raise_priority(caller),
                correlation_id=context.request_id,
                traceparent=context.traceparent,
                idempotency_key=key,
            ),
            ports.submit,
        )
        return submitted(accepted)

    async def retry(request: Request) -> Response:
        context, caller = context_of(request), caller_of(request)
        execution = await _owned(request)
        if execution["status"] not in TERMINAL:
            raise Refusal("wrong_state", "It has not finished yet; only a finished one runs again.")
        execution_id = execution["execution_id"]
        accepted = await submit.submit(
            submit.Request(
                body=_same_again(execution),
                user_id=caller.user_id,
                may_raise_priority=False,
                correlation_id=context.request_id,
                traceparent=context.traceparent,
                idempotency_key=idempotency_key(context.header(b"idempotency-key")),
                path=f"{PREFIX}/executions/{execution_id}/retry",
                retry_of=execution_id,
            ),
            ports.submit,
        )
        return submitted(accepted)

    async def show(request: Request) -> Response:
        execution = await _owned(request)
        position = await services.hub.position(execution)
        wait = None if position is None else await estimated_wait(services, execution, position)
        return Json(execution_object(execution, position=position, wait=wait))

    async def result(request: Request) -> Response:
        return Json(await result_of(services, await _owned(request)))

    async def output(request: Request) -> Response:
        name = request.path_params["stream"]
        execution = await _owned(request)
        if name not in ("stdout", "stderr"):
            raise Refusal("not_found", "The streams are stdout and stderr.")
        data, is_truncated = await stored_output(services, execution, name)
        answer = _ranged(data, request.headers.get("range"))
        answer.headers["Accept-Ranges"] = "bytes"
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}.bin"'
        if is_truncated:
            answer.headers["X-Truncated"] = "true"
        return answer

    async def cancel(request: Request) -> Response:
        execution = await _owned(request)
        body = await read(request, schemas.CancelBody, required=False)
        return Json(await _cancel(services, request, execution["execution_id"], body.reason))

    async def events(request: Request) -> Response:
        wanted = query(request, schemas.EventsQuery)
        execution = await _owned(request)
        where: dict[str, Any] = {
            "execution_id": execution["execution_id"],
            "seq": {"$gt": wanted.after_seq},
        }
        if wanted.event_types:
            where["event_type"] = {"$in": sorted(spellings(wanted.event_types))}
        found = await ports.events.find(where, sort=[("seq", 1)], limit=wanted.limit + 1)
        shown = found[: wanted.limit]
        answer = Json([event_object(event, settings) for event in shown])
        if len(found) > wanted.limit:
            following = request.url.include_query_params(after_seq=shown[-1]["seq"])
            answer.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
        return answer

    async def mine(request: Request) -> Response:
        wanted = query(request, schemas.ExecutionsQuery)
        page: Page = await page_of(services, caller_of(request).user_id, wanted)
        return Json(
            {
                "executions": [await result_of(services, one) for one in page.executions],
                "total": page.total,
                "limit": wanted.limit,
                "skip": wanted.skip,
                "has_more": page.has_more,
                "next_cursor": page.next_cursor,
            }
        )

    return [
        Operation(
            method="POST",
            path="/execute",
            endpoint=execute,
            access=Access.USER,
            scopes=_EXECUTE,
            summary="Submit a script. The answer is a receipt, not a result: it waits for its turn",
            body=schemas.ExecuteBody,
            headers={"Idempotency-Key": "1 to 255 visible characters; makes sending it again safe"},
            answer=schemas.Submitted,
            refusals=(409, 415, 422),
        ),
        Operation(
            method="GET",
            path="/executions/{execution_id}",
            endpoint=show,
            access=Access.USER,
            scopes=_READ,
            summary="An execution without its output",
            answer=schemas.Execution,
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path="/executions/{execution_id}/result",
            endpoint=result,
            access=Access.USER,
            scopes=_READ,
            summary="The result; while it runs, the output so far",
            answer=schemas.Result,
            refusals=(404,),
        ),
        Operation(
            method="GET",
            path="/executions/{execution_id}/output/{stream}",
            endpoint=output,
            access=Access.USER,
            scopes=_READ,
            summary="The bytes of stdout or stderr, exactly as they were printed",
            headers={"Range": "One range of bytes"},
            answer="application/octet-stream",
            refusals=(404, 416),
        ),
        Operation(
            method="POST",
            path="/executions/{execution_id}/cancel",
            endpoint=cancel,
            access=Access.USER,
            scopes=_EXECUTE,
            summary="Ask for its end",
            body=schemas.CancelBody,
            answer=schemas.CancelAnswer,
            refusals=(400, 404, 415, 422),
        ),
        Operation(
            method="POST",
            path="/executions/{execution_id}/retry",
            endpoint=retry,
            access=Access.USER,
            scopes=_EXECUTE,
            summary="Run a finished one again, with the same inputs",
            headers={"Idempotency-Key": "1 to 255 visible characters; makes sending it again safe"},
            answer=schemas.Submitted,
            refusals=(400, 404, 409, 422),
        ),
        Operation(
            method="GET",
            path="/executions/{execution_id}/events",
            endpoint=events,
            access=Access.USER,
            scopes=_READ,
            summary="What happened to an execution, oldest first",
            query=schemas.EventsQuery,
            answer=list[schemas.EventAnswer],
            refusals=(404, 422),
        ),
        Operation(
            method="GET",
            path="/user/executions",
            endpoint=mine,
            access=Access.USER,
            scopes=_READ,
            summary="One's own executions, newest first",
            query=schemas.ExecutionsQuery,
            answer=schemas.Executions,
            refusals=(422,),
        ),
    ]


def idempotency_key(header: str | None) -> str | None:
    """Return the key that a header holds; a quoted one is read as its content.

    Raises:
        Refusal: It is no key.
    """
    if header is None:
        return None
    key = header[1:-1] if len(header) > 2 and header[0] == header[-1] == '"' else header  # noqa: PLR2004
    if not _KEY.fullmatch(key):
        loc = ("header", "Idempotency-Key")
        raise invalid(loc, "must be 1 to 255 visible ASCII characters without spaces")
    return key


def may_raise_priority(caller: Caller) -> bool:
    """Say whether high and critical are for this caller."""
    return caller.is_admin or caller.may_raise_priority


def submitted(accepted: submit.Accepted) -> Response:
    """Return the receipt of a submission."""
    execution_id = accepted.execution_id
    answer = Json({"execution_id": execution_id, "status": Status.QUEUED})
    answer.headers["Location"] = f"{PREFIX}/executions/{execution_id}"
    if accepted.replayed:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def spellings(event_types: list[str]) -> set[str]:
    """Return event types as they are stored, for both ways in which clients spell them."""
    found = set(event_types)
    for name in event_types:
        if "." not in name and not name.startswith("result_"):
            found.add(name.replace("_", ".", 1))
    return found


def _same_again(execution: Document) -> dict[str, Any]:
    body: dict[str, Any] = {
        "script": execution["script"],
        "lang": execution["lang"],
        "lang_version": execution["lang_version"],
        "args": execution["args"],
        "timeout_seconds": execution["timeout_seconds"],
        "priority": Priority.NORMAL.value,
        "files": [
            {
                "name": file["name"],
                "content_base64": base64.b64encode(file["content"]).decode(),
            }
            for file in execution["files"]
        ],
    }
    if execution.get("stdin") is not None:
        body["stdin_base64"] = base64.b64encode(execution["stdin"]).decode()
    return body


def _ranged(data: bytes, header: str | None) -> Response:
    """Return all bytes, or the one range that was asked for; other ranges are ignored, as allowed.

    Raises:
        Refusal: The range lies beyond the end.
    """
    whole = Response(data, media_type="application/octet-stream")
    match = _RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return whole
    size = len(data)
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
        if match[2] and int(match[2]) < start:
            return whole
    else:
        start, end = max(0, size - int(match[2])), size - 1
    if start > end:
        detail = f"There are {size} bytes; the range begins after them."
        raise Refusal("range_not_satisfiable", detail, context={"size": size})
    part = Response(data[start : end + 1], 206, media_type="application/octet-stream")
    part.headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return part


async def _cancel(
    services: Services, request: Request, execution_id: str, reason: str | None
) -> dict[str, Any]:
    ports = services.ports
    context, caller, now = context_of(request), caller_of(request), ports.clock.now()
    current = await ports.executions.get(execution_id)
    if current is None:
        raise Refusal("not_found", "There is no such execution.")
    data = ExecutionCancelRequested(
        execution_id=execution_id,
        user_id=current["user_id"],
        cancelled_by=caller.user_id,
        reason=reason,
    )
    event = context.event(data, subject=execution_id, at=now, event_id=ports.ids.new())
    changed = await ports.executions.change(
        execution_id,
        when={"status": NOT_TERMINAL, "cancel_requested_at": None},
        set={
            "cancel_requested_at": now,
            "cancelled_by": caller.user_id,
            "cancel_reason": reason,
            "updated_at": now,
        },
        emit=[event],
    )
    if changed is not None:
        await ports.executions.flush()
        status, message = "cancellation_requested", "The execution will be ended."
        return _cancelled(execution_id, status, message, event.id)
    current = await ports.executions.get(execution_id) or current
    if current["status"] != Status.CANCELLED and current["status"] in TERMINAL:
        detail = f"It has finished already, with the status {current['status']}."
        raise Refusal("wrong_state", detail)
    return _cancelled(execution_id, "already_cancelled", "Its end was asked for before.", None)


def _cancelled(
    execution_id: str, status: str, message: str, event_id: str | None
) -> dict[str, Any]:
    return {
        "execution_id": execution_id,
        "status": status,
        "message": message,
        "event_id": event_id,
    }
