"""The border: headers, CSRF, sizes, odd requests."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.app import create_app, operations
from gateway.operations import PREFIX, Access, Operation
from gateway.ports import GatewayPorts
from gateway.services import Services
from shared.domain.errors import TemporaryError
from tests.gateway.browser import Browser
from tests.gateway.site import Site

EXECUTE = "/api/v1/execute"
ID = "019b76da-a800-7e1b-b06c-000000000000"


def known(site: Site) -> list[Operation]:
    """Return every operation of the gateway."""
    services: Services = site.app.state.services
    return operations(services)


def address(operation: Operation) -> str:
    """Return an address of an operation, with ids that nobody has."""
    path = operation.path.replace("{stream}", "stdout").replace("{slug}", "coordinate")
    return PREFIX + path.replace("{execution_id}", ID).replace("{key_id}", ID)


async def test_every_operation_but_the_public_ones_needs_somebody(site: Site) -> None:
    """A walk over all routes: without a credential only what is meant to be public answers."""
    open_ones = set()
    for operation in known(site):
        answer = await site.browser().request(operation.method, address(operation))
        if answer.status != 401:
            open_ones.add(f"{operation.method} {operation.path}")

    assert open_ones == {
        "GET /health/live",
        "GET /health/ready",
        "GET /example-scripts",
        "GET /k8s-limits",
        "POST /auth/login",
        "POST /auth/register",
        "POST /auth/logout",
        "OPTIONS /cloudevents",
    }


async def test_the_administrators_operations_refuse_users(site: Site) -> None:
    """A walk over all routes: role and scope are both needed, a moderator may look."""
    user, admin = await site.user(), await site.admin()
    moderator = await site.user("mod")
    me = (await moderator.get("/api/v1/auth/me")).json["user_id"]
    await site.ports.users.change(me, set={"role": "moderator"})
    await site.clock.advance(timedelta(seconds=6))
    robot, admin_robot = await site.key(admin, "read"), await site.key(admin, "admin")
    statuses = {
        operation.path: [
            (await browser.get(address(operation))).status
            for browser in (user, robot, moderator, admin, admin_robot)
        ]
        for operation in known(site)
        if operation.access is Access.MODERATOR
    }

    assert len(statuses) == 3
    assert set(map(tuple, statuses.values())) == {(403, 403, 200, 200, 200)}


async def test_every_change_by_cookie_needs_the_csrf_token(site: Site) -> None:
    """A walk over all routes: no unsafe method passes by the cookie alone."""
    browser = await site.user()
    statuses = {
        f"{one.method} {one.path}": (
            await browser.request(one.method, address(one), csrf=False)
        ).json["code"]
        for one in known(site)
        if one.method not in ("GET", "OPTIONS") and one.access is not Access.PUBLIC
    }

    assert len(statuses) == 7
    assert set(statuses.values()) <= {"csrf_failed"}


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param("", id="empty"),
        pytest.param("x", id="short"),
        pytest.param("nonce.0123", id="made-up"),
        pytest.param("é.é", id="no-ascii"),
    ],
)
async def test_a_forged_csrf_token_is_refused(site: Site, forged: str) -> None:
    """Cookie and header that agree are not enough: the token has to be of this session."""
    browser = await site.user()
    browser.cookies["csrf_token"] = forged.encode().decode("latin-1")

    answer = await browser.post(EXECUTE, json={"script": ""})

    assert (answer.status, answer.json["code"]) == (403, "csrf_failed")


async def test_the_csrf_token_of_another_session_is_refused(site: Site) -> None:
    """A token that an attacker got for an own session is worth nothing here."""
    browser, other = await site.user("ada"), await site.user("bob")
    browser.cookies["csrf_token"] = other.cookies["csrf_token"]

    assert (await browser.post(EXECUTE, json={"script": ""})).status == 403
    assert "security.csrf_failed" in site.publisher.types


@pytest.mark.parametrize(
    "value",
    ["Bearer abc", "Bearer i8s_wrong", "Basic YTpi", "Bearer", "i8s_x", "Bearer i8s_" + "x" * 9999],
)
async def test_only_keys_are_taken_from_the_authorization_header(site: Site, value: str) -> None:
    """Also with a good cookie beside it: an odd header is never skipped over."""
    browser = await site.user()

    answer = await browser.get("/api/v1/auth/me", headers={"authorization": value})

    assert answer.status == 401


async def test_a_session_token_is_no_bearer_token(site: Site) -> None:
    """What a browser holds is not accepted where programs sign in."""
    browser = await site.user()
    token = browser.cookies["access_token"]

    answer = await site.browser().get(
        "/api/v1/auth/me", headers={"authorization": f"Bearer {token}"}
    )

    assert answer.status == 401


async def test_two_cookies_of_one_name_are_none(site: Site) -> None:
    """A subdomain may plant a second one; guessing which is ours would be wrong half the time."""
    browser = await site.user()
    token = browser.cookies["access_token"]
    cookie = f"access_token={token}; access_token=other"

    answer = await site.browser().get("/api/v1/auth/me", headers={"cookie": cookie})

    assert answer.status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/health/live"),
        ("GET", "/api/v1/nowhere"),
        ("GET", "/api/v1/auth/me"),
        ("PATCH", "/api/v1/execute"),
        ("POST", "/api/v1/auth/login"),
    ],
)
async def test_every_answer_has_the_security_headers(site: Site, method: str, path: str) -> None:
    """Refusals too."""
    answer = await site.browser().request(method, path)

    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("x-frame-options") == "DENY"
    assert answer.header("content-security-policy") == (
        "default-src 'none'; frame-ancestors 'none'"
    )
    assert answer.header("cache-control") == "no-store"
    assert answer.header("x-request-id")


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        pytest.param("request-7", True, id="usual"),
        pytest.param("x" * 128, True, id="longest"),
        pytest.param("x" * 129, False, id="too-long"),
        pytest.param("two words", False, id="space"),
        pytest.param("a\r\nset-cookie: x=y", False, id="line-break"),
        pytest.param("", False, id="empty"),
    ],
)
async def test_a_request_id_is_kept_if_it_is_one(
    site: Site,
    sent: str,
    is_kept: bool,  # noqa: FBT001
) -> None:
    """Visible ASCII comes back and goes into events; anything else is replaced."""
    answer = await site.browser().get("/api/v1/nowhere", headers={"x-request-id": sent})

    assert (answer.header("x-request-id") == sent) is is_kept
    assert answer.json["instance"] == answer.header("x-request-id")


async def test_the_request_id_goes_into_the_events(site: Site) -> None:
    """From the answer's header to every event that follows."""
    browser = await site.user()
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    headers = {"x-request-id": "request-7", "traceparent": trace}

    answer = await browser.post(EXECUTE, json={"script": ""}, headers=headers)

    execution = await site.ports.executions.get(answer.json["execution_id"])
    assert execution is not None
    assert (execution["correlation_id"], execution["traceparent"]) == ("request-7", trace)


@pytest.mark.parametrize("path", ["/api/v1/health/live/", "/api/v1/health/live"])
async def test_a_slash_at_the_end_makes_no_difference(site: Site, path: str) -> None:
    """Answered directly, never by a redirect."""
    assert (await site.browser().get(path)).status == 200


async def test_a_wrong_method_names_the_right_ones(site: Site) -> None:
    """405 with Allow for all methods of the path."""
    answer = await site.browser().request("PUT", "/api/v1/api-keys")

    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, POST")
    assert answer.json["code"] == "method_not_allowed"


async def test_head_is_answered_as_get(site: Site) -> None:
    """Also on a stream, which would not end."""
    browser = await site.user()
    execution_id = await site.submit(browser)

    answer = await browser.request("HEAD", f"/api/v1/events/executions/{execution_id}")

    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b"", "json_invalid", id="empty"),
        pytest.param(b"{", "json_invalid", id="cut"),
        pytest.param(b'{"script": "\xff"}', "json_invalid", id="no-utf8"),
        pytest.param(b'\xef\xbb\xbf{"script": ""}', "json_invalid", id="byte-order-mark"),
        pytest.param(b'{"script": "\\ud800"}', "json_invalid", id="lone-surrogate"),
        pytest.param(b'{"script": "", "timeout_seconds": NaN}', "json_invalid", id="nan"),
        pytest.param(b'{"script": "", "timeout_seconds": 1e999}', "json_invalid", id="infinite"),
        pytest.param(b'{"script": "a", "script": "b"}', "json_duplicate_key", id="key-twice"),
        pytest.param(
            b'{"script": "", "files": [{"name": "a", "name": "b"}]}',
            "json_duplicate_key",
            id="key-twice-inside",
        ),
        pytest.param(b'{"a":' * 2000 + b"1" + b"}" * 2000, "json_invalid", id="deep"),
        pytest.param(b"[" * 1000 + b"]" * 1000, "json_too_deep", id="just-too-deep"),
        pytest.param(b"[]", "dict_type", id="list"),
        pytest.param(b'"text"', "dict_type", id="text"),
        pytest.param(b"null", "dict_type", id="null"),
    ],
)
async def test_odd_json_is_refused_with_its_reason(site: Site, body: bytes, kind: str) -> None:
    """What two parsers would read differently, or none, is not guessed at."""
    browser = await site.user()
    headers = {"content-type": "application/json"}

    answer = await browser.post(EXECUTE, body=body, headers=headers)

    assert answer.status == 422
    assert answer.json["errors"][0]["type"] == kind
    assert await site.ports.executions.count() == 0


async def test_a_number_of_many_digits_is_no_bug(site: Site) -> None:
    """Refused as out of range, quickly."""
    browser = await site.user()
    body = b'{"script": "", "timeout_seconds": ' + b"9" * 100_000 + b"}"

    answer = await browser.post(EXECUTE, body=body, headers={"content-type": "application/json"})

    assert answer.status == 422


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x"])
async def test_another_type_of_body_is_refused(site: Site, kind: str) -> None:
    """A form of another site cannot pretend to be JSON."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, body=b"{}", headers={"content-type": kind})

    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


async def test_a_body_that_announces_its_size_is_refused_at_once(site: Site) -> None:
    """413 without reading, and the connection is closed."""
    browser = await site.user()

    answer = await browser.post(
        EXECUTE, body=b"{}", headers={"content-length": str(10 * 1024 * 1024 + 1)}
    )

    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.header("connection") == "close"


async def test_a_body_that_hides_its_size_is_counted() -> None:
    """Chunks are counted as they come, whatever the headers say."""
    site = await Site(body_limit_bytes=1000).open()
    browser = await site.user()
    chunks = [b" " * 400 for _ in range(9)]

    answer = await browser.post(EXECUTE, chunks=chunks)
    await site.close()

    assert answer.status == 413
    assert len(chunks) == 6


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 5000])
async def test_a_length_that_is_none_is_refused(site: Site, length: str) -> None:
    """Odd framing is not interpreted."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, body=b"{}", headers={"content-length": length})

    assert answer.status in (400, 413)


async def test_a_compressed_body_is_not_read(site: Site) -> None:
    """Thirty kilobytes of it could be thirty megabytes."""
    browser = await site.user()

    answer = await browser.post(EXECUTE, body=b"x", headers={"content-encoding": "gzip"})

    assert answer.status == 415


async def test_a_body_that_never_comes_is_given_up() -> None:
    """A client that drips cannot hold a request open for ever."""
    site = await Site(body_time=timedelta(milliseconds=20)).open()
    browser = await site.user()
    exchange = browser.exchange("POST", EXECUTE, chunks=[b"{", b""])
    exchange._chunks = []

    answer = await exchange.answer()
    await site.close()

    assert answer.status == 400
    assert "did not arrive" in answer.json["detail"]


async def test_a_client_that_leaves_while_sending_is_no_error(site: Site) -> None:
    """Nobody is there to be told."""
    browser = await site.user()
    exchange = browser.exchange("POST", EXECUTE)
    exchange._chunks = []
    exchange.leave()

    await exchange.task

    assert await site.ports.executions.count() == 0


async def test_a_bug_is_told_to_nobody(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The answer has a request id, the log has the traceback under it."""

    async def broken() -> Any:
        raise ZeroDivisionError("the secret cause")

    ports = site.ports._replace(readiness=broken)
    browser = Browser(create_app(ports, site.settings))

    answer = await browser.get("/api/v1/health/ready", headers={"x-request-id": "r-500"})

    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret cause" not in answer.body
    assert "r-500" in caplog.text
    assert "the secret cause" in caplog.text


async def test_a_store_that_is_away_means_later(site: Site) -> None:
    """503 with Retry-After, and no word about the cause."""

    async def away() -> Any:
        raise TemporaryError("mongodb://user:password@host", retry_after=timedelta(seconds=2.2))

    ports: GatewayPorts = site.ports._replace(readiness=away)
    answer = await Browser(create_app(ports, site.settings)).get("/api/v1/health/ready")

    assert (answer.status, answer.header("retry-after")) == (503, "3")
    assert b"password" not in answer.body


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("192.0.2.1", "10.9.9.9", "192.0.2.1", id="not-a-proxy"),
        pytest.param("10.0.0.1", "1.1.1.1, 198.51.100.4", "198.51.100.4", id="last-is-true"),
        pytest.param("10.0.0.1", "198.51.100.4, 10.0.0.2", "198.51.100.4", id="two-proxies"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="nothing-said"),
        pytest.param("10.0.0.1", "::ffff:198.51.100.4", "198.51.100.4", id="mapped"),
    ],
)
async def test_only_trusted_proxies_may_name_an_address(
    peer: str, forwarded: str, expected: str
) -> None:
    """A client cannot choose its own address."""
    site = await Site(trusted_proxies={"10.0.0.1", "10.0.0.2"}).open()
    browser = site.browser(address=peer)
    form = {"username": "nobody", "password": "x"}

    await browser.post("/api/v1/auth/login", form=form, headers={"x-forwarded-for": forwarded})
    await site.close()

    assert [event.data.model_dump()["address"] for event in site.publisher.events] == [expected]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", "https://app.example"),
        ("https://app.example.evil.test", None),
        ("https://evil-app.example", None),
        ("null", None),
        ("http://app.example", None),
    ],
)
async def test_cors_is_for_listed_origins_exactly(origin: str, allowed: str | None) -> None:
    """No reflection, no prefix, no suffix."""
    site = await Site(cors_origins={"https://app.example"}).open()
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "idempotency-key,x-csrf-token",
    }

    preflight = await site.browser().request("OPTIONS", EXECUTE, headers=headers)
    answer = await site.browser().get("/api/v1/health/live", headers={"origin": origin})
    await site.close()

    assert preflight.header("access-control-allow-origin") == allowed
    assert answer.header("access-control-allow-origin") == allowed


async def test_without_listed_origins_there_is_no_cors(site: Site) -> None:
    """Off by default."""
    answer = await site.browser().get(
        "/api/v1/health/live", headers={"origin": "https://app.example"}
    )

    assert answer.header("access-control-allow-origin") is None


async def test_sign_ins_do_not_hold_up_the_health_check() -> None:
    """Hashes at full cost run in threads, two at a time."""
    site = await Site(password_cost="recommended").open()
    form = {"username": "nobody", "password": "x"}
    guesses = [
        site.browser(address=f"192.0.2.{n}").exchange("POST", "/api/v1/auth/login", form=form)
        for n in range(8)
    ]
    await site.clock.settle()

    live = await site.browser().get("/api/v1/health/live")
    pending = [guess for guess in guesses if not guess.task.done()]
    for guess in guesses:
        await guess.answer()
    await site.close()

    assert live.status == 200
    assert len(pending) == 8


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/api/v1/auth/register", {"json": {"username": "x" * 70_000}}),
        ("/api/v1/auth/login", {"form": {"username": "x" * 17_000, "password": "x"}}),
    ],
)
async def test_nobody_may_send_much_before_signing_in(
    site: Site, path: str, options: dict[str, Any]
) -> None:
    """What takes a few short fields does not spend time on megabytes."""
    assert (await site.browser().post(path, **options)).status == 413


async def test_a_denied_call_is_noted(site: Site) -> None:
    """Auditors see who asked for what is not theirs."""
    await (await site.user()).get("/api/v1/admin/scaling")

    (event,) = [e for e in site.publisher.events if e.type == "security.access_denied"]
    assert event.data.model_dump()["resource"] == "/admin/scaling"
