"""Small decisions about what clients and operators give."""

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.lockout import _network
from gateway.routes.events import accepts_gzip, number_of
from gateway.routes.executions import spellings
from gateway.schemas import Email
from gateway.settings import GatewaySettings

GOOD_KEY = "7d1f4c0b2a9e8d3c6b5a4f3e2d1c0b9a"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.5, br", True),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("*", True),
    ],
)
def test_gzip_only_where_it_is_wanted(header: str, accepted: bool) -> None:  # noqa: FBT001
    """A weight of zero is a no."""
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("0", 0), ("", 0), ("-3", 0), ("7.0", 0), ("٣", 0), ("9" * 400, 10**15)],
)
def test_a_last_id_is_a_number_or_the_beginning(text: str, number: int) -> None:
    """No client can name a number that a store cannot compare."""
    assert number_of(text) == number


def test_both_spellings_of_a_type_filter() -> None:
    """Existing clients write underscores."""
    found = spellings(["execution_cancel_requested", "pod.created", "result_stored"])

    assert {"execution.cancel_requested", "pod.created", "result_stored"} <= found
    assert "result.stored" not in found


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:DB8:0::1", "2001:db8::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("local", "local"),
    ],
)
def test_a_subscriber_is_one_network(address: str, network: str) -> None:
    """IPv4 counts as it is, IPv6 per /64, in whatever spelling."""
    assert _network(address) == network


@pytest.mark.parametrize("text", ["a@b.co", "first.last+tag@sub.example.org", "x_y@1.2.de"])
def test_addresses_are_accepted(text: str) -> None:
    """Usual ones, and unusual ones that work."""
    assert TypeAdapter(Email).validate_python(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "@b.co", "a@", "a@b", "a b@c.de", "a@b..de", ".a@b.de", "a..b@c.de", "a@-b.de",
     "a@b.de\r\nBcc: x@y.de", "a@b.de\0", "x" * 65 + "@b.de", "a@" + "b." * 130 + "de",
     "a@" + "b" * 100_000 + ".de"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """In linear time, also where it is long."""
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python(text)


@pytest.mark.parametrize(
    "key", ["short", "changeme" * 8, "x" * 64, "your-secret-key-your-secret-key-1234"]
)
def test_a_weak_secret_is_refused(key: str) -> None:
    """Samples from documentation protect nothing."""
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate({"secret_key": key})


@pytest.mark.parametrize(
    ("host", "is_accepted"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x.de", False)],  # noqa: S104
)
def test_insecure_cookies_are_for_this_machine_only(host: str, is_accepted: bool) -> None:  # noqa: FBT001
    """Elsewhere the session would travel in the open."""
    given = {"secret_key": GOOD_KEY, "host": host, "secure_cookies": False}
    try:
        GatewaySettings.model_validate(given)
        accepted = True
    except ValidationError:
        accepted = False

    assert accepted is is_accepted


def test_an_unknown_setting_is_refused() -> None:
    """A misspelt key is an error, not a default."""
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate({"secret_key": GOOD_KEY, "sesion_time": 60})
