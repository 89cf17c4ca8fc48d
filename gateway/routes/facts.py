"""What runs here and how much it may use: for forms and for machines."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from functions.submit.handler import Needs
from gateway import schemas
from gateway.answers import Json, cached
from gateway.operations import Access, Operation
from gateway.services import Services
from shared.domain.executions import Priority
from shared.domain.input_limits import ALL_BYTES, SCRIPT_CHARS, STDIN_BYTES
from shared.domain.runtimes import Offer

_EXAMPLES = Path(__file__).parent.parent / "examples"


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    scripts = {"scripts": _example_scripts(services.ports.offer)}
    limits = _limits(services.ports.submit)

    async def example_scripts(_: Request) -> Response:
        return cached(Json(scripts), _public(600))

    async def k8s_limits(_: Request) -> Response:
        return cached(Json(limits), _public(300))

    return [
        Operation(
            method="GET",
            path="/example-scripts",
            endpoint=example_scripts,
            access=Access.PUBLIC,
            summary="One script per language that runs here",
            answer=schemas.ExampleScripts,
        ),
        Operation(
            method="GET",
            path="/k8s-limits",
            endpoint=k8s_limits,
            access=Access.PUBLIC,
            summary="What an execution may use, and which languages run here",
            answer=schemas.Limits,
        ),
    ]


def _public(seconds: int) -> dict[str, str]:
    return {"Cache-Control": f"public, max-age={seconds}", "Vary": "Accept-Encoding"}


def _example_scripts(offer: Offer) -> dict[str, str]:
    return {
        language.name: (_EXAMPLES / f"{language.name}.{language.extension}").read_text("utf-8")
        for language in offer
    }


def _limits(submit: Needs) -> dict[str, object]:
    settings = submit.settings
    return {
        "cpu_limit": settings.cpu_limit,
        "memory_limit": settings.memory_limit,
        "cpu_request": settings.cpu_request,
        "memory_request": settings.memory_request,
        "execution_timeout": settings.default_timeout_seconds,
        "supported_runtimes": {
            language.name: {
                "versions": submit.offer.versions(language.name),
                "file_ext": language.extension,
            }
            for language in submit.offer
        },
        "max_timeout_seconds": settings.max_timeout_seconds,
        "script_max_chars": SCRIPT_CHARS,
        "stdin_max_bytes": STDIN_BYTES,
        "files_max_bytes": ALL_BYTES,
        "output_limit_bytes": settings.output_limit_bytes,
        "priorities": list(Priority),
    }
