"""Register, sign in, sign out, and what guessing gets."""

from datetime import timedelta

import pytest
from fakeredis.aioredis import FakeRedis

from gateway.accounts import bootstrap_admin
from gateway.settings import GatewaySettings
from tests.gateway.browser import Browser
from tests.gateway.site import ADMIN_PASSWORD, PASSWORD, Site

LOGIN = "/api/v1/auth/login"
ME = "/api/v1/auth/me"
LOGOUT = "/api/v1/auth/logout"
REGISTER = "/api/v1/auth/register"
WRONG = {"username": "ada", "password": "a wrong guess"}
RIGHT = {"username": "ada", "password": PASSWORD}


async def fail(browser: Browser, times: int) -> int:
    """Guess wrong some times; return the last status."""
    answers = [await browser.post(LOGIN, form=WRONG) for _ in range(times)]
    return answers[-1].status


async def test_a_new_account_can_sign_in_and_see_itself(site: Site) -> None:
    """Registration makes a plain user whatever the body claims, and `me` shows it."""
    browser = site.browser()
    body = {
        "username": "Grace",
        "email": "grace@example.org",
        "password": PASSWORD,
        "role": "admin",
        "is_active": False,
        "may_raise_priority": True,
    }

    registered = await browser.post(REGISTER, json=body)
    await site.sign_in(browser, "grace")
    me = await browser.get(ME)

    assert registered.status == 200
    assert me.json["username"] == "Grace"
    assert (me.json["role"], me.json["is_active"]) == ("user", True)
    assert "password_hash" not in me.json


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        pytest.param({"username": "ADA"}, 409, None, id="name-taken-in-other-case"),
        pytest.param({"email": "Ada@Example.org"}, 409, None, id="address-taken-in-other-case"),
        pytest.param({"email": "no address"}, 422, "email", id="bad-address"),
        pytest.param({"email": "a@b"}, 422, "email", id="no-domain"),
        pytest.param({"username": "ab"}, 422, "username", id="short-name"),
        pytest.param({"username": "eve\r\nx"}, 422, "username", id="line-break-in-name"),
        pytest.param({"password": "short"}, 422, "password", id="short-password"),
        pytest.param({"password": "x" * 129}, 422, "password", id="long-password"),
        pytest.param({"password": "newcomer"}, 422, "password", id="password-is-name"),
        pytest.param({"password": 12345678}, 422, "password", id="password-is-number"),
    ],
)
async def test_a_bad_registration_names_the_field(
    site: Site, changes: dict[str, object], status: int, field: str | None
) -> None:
    """Every refusal of a registration says which field is wrong, or that it is taken."""
    await site.user("ada")
    body = {"username": "newcomer", "email": "new@example.org", "password": PASSWORD, **changes}

    answer = await site.browser().post(REGISTER, json=body)

    assert answer.status == status
    assert [error["loc"][-1] for error in answer.json.get("errors", [])] == [field][: status == 422]


async def test_every_character_of_a_long_password_counts(site: Site) -> None:
    """A password that differs in its 128th character is another password."""
    browser = site.browser()
    body = {"username": "long", "email": "long@example.org", "password": "ü" * 127 + "a"}
    await browser.post(REGISTER, json=body)

    wrong = await browser.post(LOGIN, form={"username": "long", "password": "ü" * 127 + "b"})
    right = await browser.post(LOGIN, form={"username": "long", "password": "ü" * 127 + "a"})

    assert (wrong.status, right.status) == (401, 200)


async def test_unknown_name_and_wrong_password_answer_alike(site: Site) -> None:
    """Nobody learns from a refusal which names exist."""
    await site.user("ada")

    wrong = (await site.browser().post(LOGIN, form=WRONG)).json
    unknown = (await site.browser().post(LOGIN, form={**WRONG, "username": "nobody"})).json

    assert {**wrong, "instance": ""} == {**unknown, "instance": ""}
    assert wrong["code"] == "bad_credentials"


@pytest.mark.parametrize("form", [{}, {"username": "", "password": ""}, {"username": "ada"}])
async def test_empty_credentials_are_refused(site: Site, form: dict[str, str]) -> None:
    """A form without both fields is no sign-in."""
    answer = await site.browser().post(LOGIN, form=form)

    assert answer.status == 422


async def test_a_login_that_is_no_form_is_refused(site: Site) -> None:
    """JSON is not what the sign-in takes."""
    answer = await site.browser().post(LOGIN, json=RIGHT)

    assert answer.status == 415


async def test_the_cookies_have_their_attributes() -> None:
    """The session is not readable by scripts, both are bound to this site, over TLS only."""
    site = await Site(secure_cookies=True).open()
    browser = site.browser()
    form = {"username": "admin", "password": ADMIN_PASSWORD}

    answer = await browser.post(LOGIN, form=form)
    await site.close()

    access, csrf = sorted(answer.cookies)
    assert access.startswith("access_token=")
    assert access.endswith("; Path=/; Max-Age=3600; SameSite=Strict; Secure; HttpOnly")
    assert csrf == (
        f"csrf_token={answer.json['csrf_token']}; Path=/; Max-Age=3600; SameSite=Strict; Secure"
    )
    assert answer.header("cache-control") == "no-store"
    assert answer.header("strict-transport-security") == "max-age=63072000; includeSubDomains"


async def test_a_planted_session_does_not_survive_the_sign_in(site: Site) -> None:
    """Signing in always begins a session of its own."""
    victim = await site.user("ada")
    before = dict(victim.cookies)

    await site.sign_in(victim, "ada")

    assert victim.cookies["access_token"] != before["access_token"]
    assert len(await site.ports.sessions.find()) == 2


async def test_signing_out_ends_the_session_everywhere(site: Site) -> None:
    """A copy of the cookies is worth nothing after the sign-out."""
    browser = await site.user()
    copy = Browser(site.app, cookies=dict(browser.cookies))

    answer = await browser.post(LOGOUT)

    assert (answer.status, browser.cookies) == (200, {})
    assert (await copy.get(ME)).status == 401


async def test_signing_out_works_with_an_expired_token(site: Site) -> None:
    """An expired session can still be ended."""
    browser = await site.user()
    await site.clock.advance(timedelta(hours=2))

    answer = await browser.post(LOGOUT)

    assert answer.status == 200
    (session,) = await site.ports.sessions.find()
    assert session["revoked_at"] == site.clock.now()


async def test_signing_out_without_a_session_is_fine(site: Site) -> None:
    """There is nothing to end, and nothing to complain about."""
    assert (await site.browser().post(LOGOUT)).status == 200


async def test_signing_out_with_a_foreign_cookie_is_refused(site: Site) -> None:
    """A cookie that is none of ours names no session."""
    browser = Browser(site.app, cookies={"access_token": "abc.def.ghi"})

    assert (await browser.post(LOGOUT)).status == 401


async def test_signing_out_needs_the_csrf_token(site: Site) -> None:
    """Another site cannot sign a user out."""
    browser = await site.user()

    assert (await browser.post(LOGOUT, csrf=False)).status == 403
    assert (await browser.get(ME)).status == 200


async def test_a_login_from_a_foreign_page_is_refused(site: Site) -> None:
    """Another site cannot sign a visitor in under an account of its own."""
    await site.user("ada")
    headers = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}

    answer = await site.browser().post(LOGIN, form=RIGHT, headers=headers)

    assert (answer.status, answer.json["code"]) == (403, "csrf_failed")


async def test_a_session_ends_when_its_time_is_over(site: Site) -> None:
    """An hour without use, and the session is gone."""
    browser = await site.user()
    await site.clock.advance(timedelta(minutes=61))

    assert (await browser.get(ME)).status == 401


async def test_a_session_in_use_is_renewed_under_its_id(site: Site) -> None:
    """Past half of its time new cookies come; the CSRF token and the old cookies still work."""
    browser = await site.user()
    old = dict(browser.cookies)
    await site.clock.advance(timedelta(minutes=31))

    renewed = await browser.get(ME)
    lost = await Browser(site.app, cookies=old).get(ME)
    await site.clock.advance(timedelta(minutes=50))
    later = await browser.get(ME)

    assert len(renewed.cookies) == 2
    assert browser.cookies["csrf_token"] == old["csrf_token"]
    assert (lost.status, later.status) == (200, 200)
    assert len(await site.ports.sessions.find()) == 1


async def test_no_session_outlives_a_day(site: Site) -> None:
    """However much it is used, a session ends 24 hours after the sign-in."""
    browser = await site.user()
    statuses = []

    for _ in range(60):
        await site.clock.advance(timedelta(minutes=25))
        statuses.append((await browser.get(ME)).status)

    assert statuses.index(401) == 57  # 25 minutes x 58 is the first instant past 24 hours


async def test_a_disabled_user_is_out_within_seconds(site: Site) -> None:
    """A live session stops working when its user is disabled."""
    browser = await site.user()
    me = (await browser.get(ME)).json
    await site.ports.users.change(me["user_id"], set={"is_active": False})
    await site.clock.advance(timedelta(seconds=5))

    assert (await browser.get(ME)).status == 401


async def test_only_the_right_password_tells_that_an_account_is_disabled(site: Site) -> None:
    """A guesser learns nothing about the state of an account."""
    browser = await site.user("ada")
    me = (await browser.get(ME)).json
    await site.ports.users.change(me["user_id"], set={"is_active": False})

    wrong = await site.browser().post(LOGIN, form=WRONG)
    right = await site.browser().post(LOGIN, form=RIGHT)

    assert (wrong.status, right.status) == (401, 403)
    assert right.json["code"] == "account_disabled"


async def test_the_fifth_failure_locks_the_pair(site: Site) -> None:
    """The attempt that fills the measure already answers 423, and the right password waits too."""
    await site.user("ada")
    guesser = site.browser()

    statuses = [(await guesser.post(LOGIN, form=WRONG)).status for _ in range(5)]
    right = await guesser.post(LOGIN, form=RIGHT)

    assert statuses == [401, 401, 401, 401, 423]
    assert (right.status, right.header("retry-after")) == (423, "900")
    assert site.publisher.types.count("security.account_locked") == 1


async def test_nobody_is_locked_out_by_a_stranger(site: Site) -> None:
    """Failures at one address do not keep the owner out at another."""
    await site.user("ada")
    await fail(site.browser(address="198.51.100.9"), 8)

    assert (await site.browser().post(LOGIN, form=RIGHT)).status == 200


async def test_a_lock_ends(site: Site) -> None:
    """After a quarter of an hour without failures one may try again."""
    await site.user("ada")
    guesser = site.browser()
    await fail(guesser, 5)
    before = site.redis
    await FakeRedis(server=before).flushall()

    assert (await guesser.post(LOGIN, form=RIGHT)).status == 200


async def test_racing_guesses_are_counted_one_by_one(site: Site) -> None:
    """Twenty guesses sent at once are no more than five guesses."""
    await site.user("ada")
    exchanges = [site.browser().exchange("POST", LOGIN, form=WRONG) for _ in range(20)]

    statuses = [(await exchange.answer()).status for exchange in exchanges]

    assert sorted(statuses) == [401] * 4 + [423] * 16


async def test_guesses_from_everywhere_lock_the_name_for_strangers_only() -> None:
    """Fifty failures over all addresses stop new addresses; a place the owner knows stays open."""
    site = await Site(max_login_attempts_of_name=10).open()
    await site.user("ada", address="203.0.113.7")
    for number in range(10):
        await fail(site.browser(address=f"198.51.100.{number}"), 1)

    stranger = await site.browser(address="192.0.2.1").post(LOGIN, form=RIGHT)
    owner = await site.browser(address="203.0.113.7").post(LOGIN, form=RIGHT)
    await site.close()

    assert (stranger.status, owner.status) == (423, 200)


async def test_an_ipv6_subscriber_is_one_address(site: Site) -> None:
    """A /64 gives 2^64 addresses and still five guesses."""
    await site.user("ada")
    statuses = [
        await fail(site.browser(address=f"2001:db8:1:2::{number}"), 1) for number in range(5)
    ]

    assert statuses[-1] == 423


async def test_guessing_is_limited_while_the_signals_are_away(site: Site) -> None:
    """Failures are then counted in documents."""
    await site.user("ada")
    site.redis.connected = False
    guesser = site.browser()

    statuses = [(await guesser.post(LOGIN, form=WRONG)).status for _ in range(6)]
    site.redis.connected = True

    assert statuses == [401, 401, 401, 401, 423, 423]


async def test_a_name_in_an_event_is_not_readable(site: Site) -> None:
    """People type passwords into the field of the name."""
    await site.browser().post(LOGIN, form={"username": "my-secret-password", "password": "x"})

    (event,) = [e for e in site.publisher.events if e.type == "security.auth_failed"]
    assert "my-secret-password" not in repr(event)


async def test_the_first_start_makes_one_administrator() -> None:
    """Without a configured password one is made up and returned, once."""
    site = Site(admin_password=None)

    first = await bootstrap_admin(site.ports, site.settings)
    second = await bootstrap_admin(site.ports, site.settings)
    form = {"username": "admin", "password": first or ""}
    answer = await site.browser().post(LOGIN, form=form)
    await site.close()

    assert first is not None
    assert len(first) >= 16
    assert second is None
    assert (answer.status, answer.json["role"]) == (200, "admin")


async def test_a_later_start_does_not_reset_the_password(site: Site) -> None:
    """Another password in the settings means nothing once there is an administrator."""
    changed = site.settings.model_dump() | {"admin_password": "an entirely other one"}

    await bootstrap_admin(site.ports, GatewaySettings.model_validate(changed))
    form = {"username": "admin", "password": ADMIN_PASSWORD}

    assert (await site.browser().post(LOGIN, form=form)).status == 200
