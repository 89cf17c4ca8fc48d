"""Signs the administrator of an installation in, and makes keys, as the README tells."""

import httpx2

from tests.engines.knative.call import Route

_ADMIN = "admin"
_SCOPES = ["execute", "read", "cloudevents", "admin"]
_SECONDS = 60
"""The gateway may sleep."""


def new_key(there: Route, password: str, name: str) -> str:
    """Return a new API key of the administrator that may do everything.

    Raises:
        AssertionError: The gateway refused, in its own words.
    """
    with _client(there) as http:
        told = http.post("/auth/login", data={"username": _ADMIN, "password": password})
        assert told.status_code == httpx2.codes.OK, told.text
        # The cookies are for TLS only, and this is a cluster's inside.
        cookies = "; ".join(f"{one.name}={one.value}" for one in http.cookies.jar)
        answer = http.post(
            "/api-keys",
            json={"name": name, "scopes": _SCOPES},
            headers={"X-CSRF-Token": told.json()["csrf_token"], "Cookie": cookies},
        )
        assert answer.status_code == httpx2.codes.OK, answer.text
        key: str = answer.json()["key"]
        return key


def is_known(there: Route, key: str) -> bool:
    """Return whether the gateway takes a key."""
    with _client(there) as http:
        answer = http.get("/auth/me", headers={"Authorization": f"Bearer {key}"})
        return answer.status_code == httpx2.codes.OK


def _client(there: Route) -> httpx2.Client:
    return httpx2.Client(base_url=f"{there.url}/api/v1", headers=there.headers, timeout=_SECONDS)
