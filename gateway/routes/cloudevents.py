"""Where other systems post CloudEvents: a submission by another road."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.submit import handler as submit
from gateway import schemas
from gateway.answers import Json
from gateway.bodies import parse
from gateway.context import caller_of, context_of
from gateway.errors import invalid, problem
from gateway.operations import Access, Operation
from gateway.routes.executions import may_raise_priority, submitted
from gateway.services import Services
from shared.domain.errors import FieldError, MalformedEvent, Refusal, TemporaryError
from shared.domain.problems import PROBLEMS
from shared.domain.tracing import is_traceparent
from shared.events.codec import BATCH, CloudEvent, UnsupportedFormat, from_http
from shared.events.executions import ExecutionSubmit

PATH = "/cloudevents"
_BATCH_LENGTH = 100
_LONGEST_NAME = 1024
_ALLOWED_RATE = "60"
_PASSING = frozenset({429, 503})


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports, settings = services.ports, services.settings

    async def post(request: Request) -> Response:
        body = await request.body()
        try:
            events = from_http(dict(request.headers), body)
        except UnsupportedFormat as error:
            raise Refusal("unsupported_media_type", f"{error}.") from error
        except MalformedEvent as error:
            raise Refusal("malformed", f"{error}.") from error
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == BATCH:
            return await _batch(services, request, events)
        return submitted(await _submit(services, request, events[0]))

    async def options(request: Request) -> Response:
        origin = request.headers.get("webhook-request-origin")
        if origin is None:
            raise Refusal("malformed", "The header WebHook-Request-Origin is missing.")
        if origin not in settings.webhook_origins:
            raise Refusal("forbidden", "This origin may not post events here.")
        answer = Response(status_code=200)
        answer.headers["WebHook-Allowed-Origin"] = origin
        answer.headers["WebHook-Allowed-Rate"] = _ALLOWED_RATE
        answer.headers["Allow"] = "OPTIONS, POST"
        return answer

    async def _batch(services: Services, request: Request, events: list[CloudEvent]) -> Response:
        if len(events) > _BATCH_LENGTH:
            msg = f"at most {_BATCH_LENGTH} events, not {len(events)}"
            raise invalid(("body",), msg, "too_long")
        results = [await _result(services, request, event) for event in events]
        problems = [result["problem"] for result in results if "problem" in result]
        if problems and len(problems) == len(results):
            _refuse_passing(problems)
        return Json({"results": results})

    async def _result(services: Services, request: Request, event: CloudEvent) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": event.id, "source": event.source}
        try:
            accepted = await _submit(services, request, event)
        except (Refusal, TemporaryError) as error:
            refusal = error if isinstance(error, Refusal) else _unavailable(error)
            members = problem(
                refusal, request_id=context_of(request).request_id, now=ports.clock.now()
            )
            return {**shown, "status": "refused", "problem": members}
        return {**shown, "status": "queued", "execution_id": accepted.execution_id}

    return [
        Operation(
            method="POST",
            path=PATH,
            endpoint=post,
            access=Access.USER,
            scopes=frozenset({"cloudevents"}),
            summary="Submit by CloudEvent 1.0: binary, structured, or a batch of at most 100",
            body=schemas.ExecuteBody,
            answer=schemas.Submitted | schemas.BatchAnswer,
            refusals=(400, 409, 415, 422),
        ),
        Operation(
            method="OPTIONS",
            path=PATH,
            endpoint=options,
            access=Access.PUBLIC,
            summary="Permission to post events, as the webhook specification asks for it",
            headers={"WebHook-Request-Origin": "Who wants to post"},
            answer=None,
            refusals=(400, 403),
        ),
    ]


def _unavailable(error: TemporaryError) -> Refusal:
    detail = "A part of the service gives no answer at the moment; try again shortly."
    return Refusal("unavailable", detail, retry_after=error.retry_after)


def _refuse_passing(problems: list[dict[str, Any]]) -> None:
    """Let a batch be sent again as a whole, where every event failed and may succeed later."""
    if all(PROBLEMS[one["code"]].status in _PASSING for one in problems):
        raise Refusal("unavailable", "No event of the batch could be taken; send it again later.")


async def _submit(services: Services, request: Request, event: CloudEvent) -> submit.Accepted:
    context, caller = context_of(request), caller_of(request)
    if event.type != ExecutionSubmit.TYPE:
        detail = f"Events of the type {ExecutionSubmit.TYPE} are taken here, no others."
        raise Refusal("malformed", detail)
    if len(event.id) + len(event.source) > _LONGEST_NAME:
        raise Refusal("malformed", f"id and source have more than {_LONGEST_NAME} characters.")
    body = parse(event.data or b"{}")
    if not isinstance(body, dict):
        error = FieldError(("body", "data"), "must be a JSON object", "dict_type")
        raise Refusal("validation_failed", "data: must be a JSON object.", errors=[error])
    parent = event.attributes.get("traceparent", "")
    return await submit.submit(
        submit.Request(
            body=body,
            user_id=caller.user_id,
            may_raise_priority=may_raise_priority(caller),
            correlation_id=context.request_id,
            traceparent=parent if is_traceparent(parent) else context.traceparent,
            # With the user in front: another's event of the same name is not this one's.
            source=f"{caller.user_id} {event.source} {event.id}",
        ),
        services.ports.submit,
    )
