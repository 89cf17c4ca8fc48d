"""The few requests that the engine makes to its own cluster, by the standard library alone.

The project's client library is not used here, so that a cluster starts in a checkout whose packages
are not installed yet, and so that a fault of that library cannot hide behind its own tests.
"""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from tests.engines.engine import EngineError
from tests.engines.kubernetes.network import ADDRESS

_SECONDS = 10


class Api:
    """The cluster's API as its administrator."""

    def __init__(self, certificates: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        self._tls.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")

    def text(self, path: str) -> str:
        """Return what is at a path that does not speak JSON, such as ``/readyz``."""
        return self._ask("GET", path).decode()

    def get(self, path: str) -> dict[str, Any]:
        """Return the object or list at this path."""
        answer: dict[str, Any] = json.loads(self._ask("GET", path))
        return answer

    def delete(self, path: str, options: dict[str, Any]) -> None:
        """Delete the object, or all objects of the list, at this path; absent is fine."""
        self._ask("DELETE", path, json.dumps(options), allowed=(200, 202, 404))

    def _ask(
        self, verb: str, path: str, body: str | None = None, *, allowed: tuple[int, ...] = (200,)
    ) -> bytes:
        connection = http.client.HTTPSConnection(ADDRESS, 6443, timeout=_SECONDS, context=self._tls)
        try:
            connection.request(verb, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the API of the cluster gave no answer: {error}") from error
        finally:
            connection.close()
        if answer.status not in allowed:
            said = content[:500].decode(errors="replace")
            raise EngineError(f"{verb} {path} was answered with {answer.status}: {said}")
        return content
