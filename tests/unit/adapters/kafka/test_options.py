"""What clients are told, from plain values."""

import logging
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.kafka.options import KafkaOptions, milliseconds, quieten_driver
from shared.domain.errors import StartupError

SERVERS = ("one:9092", "two:9092")


def test_nothing_secret_is_shown() -> None:
    """A log line or a traceback may show the options."""
    options = KafkaOptions(SERVERS, sasl_mechanism="PLAIN", username="me", password="secret")

    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("tls", "mechanism", "protocol"),
    [
        pytest.param(False, None, "PLAINTEXT", id="open"),
        pytest.param(True, None, "SSL", id="tls"),
        pytest.param(False, "PLAIN", "SASL_PLAINTEXT", id="account"),
        pytest.param(True, "SCRAM-SHA-512", "SASL_SSL", id="both"),
    ],
)
def test_the_way_in_follows_from_tls_and_account(
    *, tls: bool, mechanism: str | None, protocol: str
) -> None:
    """One setting fewer that can contradict the others."""
    options = KafkaOptions(
        SERVERS,
        tls=tls,
        sasl_mechanism=mechanism,  # type: ignore[arg-type]  # a parameter of the test
        username="me",
        password="secret",
    )

    assert options.client()["security_protocol"] == protocol
    assert options.client()["bootstrap_servers"] == ["one:9092", "two:9092"]


@pytest.mark.parametrize(
    ("username", "password"), [("me", None), (None, "secret"), ("", "secret"), (None, None)]
)
def test_an_account_needs_a_name_and_a_password(username: str | None, password: str | None) -> None:
    """Said before anything is connected."""
    with pytest.raises(StartupError, match="INTEGR8S_KAFKA_USERNAME"):
        KafkaOptions(SERVERS, sasl_mechanism="PLAIN", username=username, password=password)


def test_certificates_are_checked_unless_nobody_asks(tmp_path: Path) -> None:
    """Names and certificates of brokers are both checked; a file without any is refused."""
    context = KafkaOptions(SERVERS, tls=True).client()["ssl_context"]
    empty = tmp_path / "empty.pem"
    empty.touch()

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    with pytest.raises(StartupError, match="INTEGR8S_KAFKA_CA_FILE"):
        KafkaOptions(SERVERS, tls=True, ca_file=empty).client()


def test_a_prefix_stands_before_every_name() -> None:
    """Two installations on the same brokers do not meet."""
    assert KafkaOptions(SERVERS, prefix="blue.").name("timers") == "blue.timers"


def test_durations_are_milliseconds() -> None:
    """As the driver counts."""
    assert milliseconds(timedelta(seconds=1.5)) == 1500


def test_the_driver_is_quiet_unless_somebody_wants_to_hear_it() -> None:
    """It tells of each attempt that failed, which comes to the callers as an error anyway."""
    driver = logging.getLogger("kafka")
    before = driver.level
    try:
        driver.setLevel(logging.NOTSET)
        quieten_driver.__wrapped__()
        quietened = driver.level
        driver.setLevel(logging.INFO)
        quieten_driver.__wrapped__()
        chosen = driver.level
    finally:
        driver.setLevel(before)

    assert quietened == logging.CRITICAL
    assert chosen == logging.INFO
