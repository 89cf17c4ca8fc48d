"""Session tokens that are none of ours, in all spellings."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from gateway.settings import GatewaySettings
from gateway.tokens import Tokens

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = "a1b2c3d4e5f6" * 4, "f6e5d4c3b2a1" * 4


def tokens(key: str = NEW, previous: str | None = None) -> Tokens:
    """Return the tokens of an installation."""
    settings = {"secret_key": key, "previous_secret_key": previous}
    return Tokens(GatewaySettings.model_validate(settings))


def issued(by: Tokens, **times: Any) -> str:
    """Return a token of an hour."""
    return by.session(
        user_id="u",
        session_id="s",
        token_id="t",
        now=times.get("now", NOW),
        expires_at=NOW + timedelta(hours=1),
    )


def forged(claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None) -> str:
    """Return a token that is signed with the right key but says something else."""
    installation = tokens()
    kid = installation._kid
    good = {
        "sub": "u",
        "sid": "s",
        "jti": "t",
        "iat": int(NOW.timestamp()),
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
        "iss": "integr8s",
        "aud": "integr8s-web",
    }
    merged = {k: v for k, v in {**good, **(claims or {})}.items() if v is not None}
    heads = {"alg": "HS256", "typ": "JWT", "kid": kid, **(header or {})}
    heads = {k: v for k, v in heads.items() if v is not None}
    return jwt.encode(heads, merged, installation._keys[kid], default_type=None)


def unsigned(header: dict[str, Any]) -> str:
    """Return a token without a signature."""
    parts = [header, {"sub": "u", "sid": "s", "jti": "t"}]
    texts = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*texts, ""])


def test_a_token_of_ours_is_read() -> None:
    """What was put in comes out."""
    claims = tokens().read(issued(tokens()), now=NOW)

    assert claims is not None
    assert (claims.user_id, claims.session_id) == ("u", "s")


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iss": "other"}, id="issuer"),
        pytest.param({"aud": "other"}, id="audience"),
        pytest.param({"aud": ["integr8s-web"]}, id="audience-in-a-list"),
        pytest.param({"sub": ["u"]}, id="subject-in-a-list"),
        pytest.param({"sub": ""}, id="empty-subject"),
        pytest.param({"sid": None}, id="no-session"),
        pytest.param({"jti": None}, id="no-id"),
        pytest.param({"exp": None}, id="no-expiry"),
        pytest.param({"exp": "9999999999"}, id="expiry-as-text"),
        pytest.param({"exp": 1e300}, id="expiry-as-float"),
        pytest.param({"exp": True}, id="expiry-as-bool"),
        pytest.param({"exp": 1 << 60}, id="expiry-beyond-time"),
        pytest.param({"iat": None}, id="no-issue-time"),
        pytest.param({"nbf": int(NOW.timestamp()) + 60}, id="not-yet"),
    ],
)
def test_a_claim_that_is_missing_or_odd_makes_it_invalid(claims: dict[str, Any]) -> None:
    """Also under a right signature."""
    assert tokens().read(forged(claims), now=NOW) is None


@pytest.mark.parametrize("header", [{"kid": None}, {"kid": "other"}, {"typ": None}, {"typ": "x"}])
def test_an_odd_header_makes_it_invalid(header: dict[str, Any]) -> None:
    """The key is named, the type is said."""
    assert tokens().read(forged(header=header), now=NOW) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "a.b.c.d.e",
        "." * 2000,
        "x" * 1_000_000,
        "é.é.é",
        unsigned({"alg": "none"}),
        unsigned({"alg": "None", "kid": tokens()._kid}),
        unsigned({"alg": "nOnE", "typ": "JWT", "kid": tokens()._kid}),
    ],
)
def test_what_is_no_token_is_no_bug(token: str) -> None:
    """Nothing that a client can send raises."""
    assert tokens().read(token, now=NOW) is None


def test_a_swapped_algorithm_is_refused() -> None:
    """HS512 with the right key is not what we sign."""
    key = next(iter(tokens()._keys.values()))
    header = {"alg": "HS512", "typ": "JWT", "kid": tokens()._kid}
    token = jwt.encode(header, {"sub": "u"}, key, algorithms=["HS512"])

    assert tokens().read(token, now=NOW) is None


def test_a_key_in_the_token_is_not_used() -> None:
    """Whoever brings the own key proves nothing."""
    own = OctKey.generate_key(256)
    header = {"alg": "HS256", "typ": "JWT", "kid": "own", "jwk": own.as_dict(private=True)}
    token = jwt.encode(header, {"sub": "u"}, own)

    assert tokens().read(token, now=NOW) is None


def test_a_changed_token_is_refused() -> None:
    """One character of the claims is enough."""
    head, claims, mac = issued(tokens()).split(".")
    changed = ("A" if claims[5] != "A" else "B").join([claims[:5], claims[6:]])

    assert tokens().read(f"{head}.{changed}.{mac}", now=NOW) is None


@pytest.mark.parametrize(("after", "is_valid"), [(3629, True), (3630, False)])
def test_expiry_has_half_a_minute_of_leeway(after: int, is_valid: bool) -> None:  # noqa: FBT001
    """Clocks of two machines may differ a little."""
    found = tokens().read(issued(tokens()), now=NOW + timedelta(seconds=after))

    assert (found is not None) is is_valid


def test_tokens_survive_one_rotation_of_the_key() -> None:
    """The previous key still verifies, an older one does not."""
    old = issued(tokens(OLD))

    assert tokens(NEW, previous=OLD).read(old, now=NOW) is not None
    assert tokens(NEW).read(old, now=NOW) is None


def test_a_csrf_token_is_bound_to_its_session() -> None:
    """It verifies there and nowhere else, also after a rotation."""
    token = tokens(OLD).csrf("s")

    assert tokens(OLD).is_csrf(token, "s")
    assert tokens(NEW, previous=OLD).is_csrf(token, "s")
    assert not tokens(OLD).is_csrf(token, "other")
    assert not tokens(NEW).is_csrf(token, "s")
