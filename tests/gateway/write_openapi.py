"""Write `gateway/openapi.json` anew: `python -m tests.gateway.write_openapi`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import gateway
from gateway import openapi
from gateway.app import operations
from gateway.services import Services
from tests.gateway.site import Site

OPENAPI = Path(gateway.__file__).parent / "openapi.json"


async def current() -> dict[str, Any]:
    """Return the document of today's operations."""
    site = Site()
    services: Services = site.app.state.services
    document = openapi.document(operations(services))
    await site.close()
    return document


def main() -> None:
    """Write the file."""
    document = asyncio.run(current())
    OPENAPI.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
