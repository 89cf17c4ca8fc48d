"""API keys: made once, used by programs, refused at once when revoked."""

from datetime import timedelta

import pytest

from gateway.schemas import Keys, NewKey
from tests.gateway.site import Site

KEYS = "/api/v1/api-keys"
ME = "/api/v1/auth/me"


async def test_a_key_is_shown_once_and_stored_as_a_hash(site: Site) -> None:
    """Neither the list nor the store has the key itself."""
    browser = await site.user()

    made = NewKey.model_validate(
        (await browser.post(KEYS, json={"name": "ci", "scopes": ["read"]})).json
    )
    listed = (await browser.get(KEYS)).json

    assert Keys.model_validate(listed).api_keys[0].prefix == made.key[:12]
    assert made.key not in str(listed)
    assert made.key not in str(await site.ports.api_keys.find())


async def test_a_key_needs_the_scope(site: Site) -> None:
    """A key for reading cannot submit, and none can make other keys."""
    robot = await site.key(await site.user(), "read")

    submit = await robot.post("/api/v1/execute", json={"script": ""})
    more = await robot.post(KEYS, json={"name": "x", "scopes": ["read"]})

    assert (await robot.get(ME)).status == 200
    assert (submit.status, submit.json["code"]) == (403, "scope_missing")
    assert (more.status, more.json["code"]) == (403, "scope_missing")


async def test_a_revoked_key_is_refused_from_the_next_request_on(site: Site) -> None:
    """However lately it was used."""
    browser = await site.user()
    robot = await site.key(browser, "read")
    await robot.get(ME)
    (key,) = (await browser.get(KEYS)).json["api_keys"]

    revoked = await browser.request("DELETE", f"{KEYS}/{key['key_id']}")

    assert revoked.status == 204
    assert (await robot.get(ME)).status == 401
    assert (await browser.get(KEYS)).json["api_keys"] == []


async def test_a_key_expires(site: Site) -> None:
    """After its days it is refused."""
    browser = await site.user()
    made = (
        await browser.post(KEYS, json={"name": "x", "scopes": ["read"], "expires_in_days": 1})
    ).json
    robot = site.browser(key=made["key"])
    await site.clock.advance(timedelta(days=1))

    assert (await robot.get(ME)).status == 401


async def test_somebody_elses_key_cannot_be_revoked(site: Site) -> None:
    """It looks unknown, and goes on working."""
    browser = await site.user("ada")
    robot = await site.key(browser, "read")
    (key,) = (await browser.get(KEYS)).json["api_keys"]

    answer = await (await site.user("bob")).request("DELETE", f"{KEYS}/{key['key_id']}")

    assert answer.status == 404
    assert (await robot.get(ME)).status == 200


async def test_the_last_use_is_recorded(site: Site) -> None:
    """When, and from where."""
    browser = await site.user()
    robot = await site.key(browser, "read")
    robot.address = "198.51.100.77"

    await robot.get(ME)

    (key,) = (await browser.get(KEYS)).json["api_keys"]
    assert key["last_used_address"] == "198.51.100.77"
    assert key["last_used_at"] == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"name": "", "scopes": ["read"]}, id="no-name"),
        pytest.param({"name": "a\nb", "scopes": ["read"]}, id="line-break"),
        pytest.param({"name": "x", "scopes": []}, id="no-scope"),
        pytest.param({"name": "x", "scopes": ["everything"]}, id="unknown-scope"),
        pytest.param({"name": "x", "scopes": ["read"], "expires_in_days": 366}, id="too-long"),
        pytest.param({"name": "x", "scopes": ["read"], "expires_in_days": True}, id="bool"),
        pytest.param({"name": "x", "scopes": ["read"], "owner": "bob"}, id="extra-field"),
    ],
)
async def test_a_bad_key_request_is_refused(site: Site, body: dict[str, object]) -> None:
    """New operations refuse what they do not know."""
    assert (await (await site.user()).post(KEYS, json=body)).status == 422


async def test_the_scope_of_administrators_is_theirs(site: Site) -> None:
    """A user cannot make a key that may administrate."""
    answer = await (await site.user()).post(KEYS, json={"name": "x", "scopes": ["admin"]})

    assert (answer.status, answer.json["code"]) == (403, "forbidden")


async def test_twenty_keys_are_enough(site: Site) -> None:
    """The twenty-first is refused."""
    browser = await site.user()
    statuses = [
        (await browser.post(KEYS, json={"name": "x", "scopes": ["read"]})).status for _ in range(21)
    ]

    assert statuses == [200] * 20 + [422]
