"""Accounts and TLS: who may come in does, and everybody else is told why not."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shared.adapters.kafka.event_log import KafkaEventLog
from shared.adapters.kafka.options import KafkaOptions, SaslMechanism
from shared.domain.errors import PermanentError, StartupError, TemporaryError
from tests.contract.kafka import make_topics
from tests.integration.kafka.broker import PASSWORD, USER, Broker
from tests.integration.kafka.records import FACTS, numbered_round, poll_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

EACH = pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
LogOf = Callable[[KafkaOptions], KafkaEventLog]


@pytest.fixture
async def log_of() -> AsyncIterator[LogOf]:
    """Return a maker of logs, which are closed in the end."""
    logs: list[KafkaEventLog] = []

    def make(options: KafkaOptions) -> KafkaEventLog:
        logs.append(KafkaEventLog(options))
        return logs[-1]

    yield make
    for log in logs:
        await log.close()


def signed_in(
    options: KafkaOptions,
    servers: tuple[str, ...],
    mechanism: SaslMechanism = "SCRAM-SHA-512",
    password: str = PASSWORD,
) -> KafkaOptions:
    """Return the same names by way of an account."""
    return replace(
        options, servers=servers, sasl_mechanism=mechanism, username=USER, password=password
    )


async def works(log: KafkaEventLog) -> bool:
    """Say whether everything can be done: asking, appending, joining, committing."""
    await log.ping()
    await log.append(numbered_round(0))
    member = await log.join("g", [FACTS])
    found = await poll_until(lambda found: len(found) == 24, member)
    await member.commit({record.place: record.offset + 1 for record in found})
    positions = await log.positions("g", [FACTS])
    return all(position.committed == position.end for position in positions.values())


@EACH
async def test_an_account_lets_in(
    broker: Broker, options: KafkaOptions, log_of: LogOf, mechanism: SaslMechanism
) -> None:
    """Every client of ours signs in by itself."""
    await make_topics(options)

    assert await works(log_of(signed_in(options, broker.with_accounts, mechanism)))


@EACH
async def test_a_wrong_password_is_said_and_not_tried_for_ever(
    broker: Broker, options: KafkaOptions, log_of: LogOf, mechanism: SaslMechanism
) -> None:
    """Asking and joining end for good, with the settings to correct."""
    log = log_of(signed_in(options, broker.with_accounts, mechanism, "wrong"))
    told = f"does not let {USER} in by {mechanism}.*INTEGR8S_KAFKA_PASSWORD"

    with pytest.raises(PermanentError, match=told):
        await log.ping()
    with pytest.raises(PermanentError, match=told):
        await log.join("g", [FACTS])
    with pytest.raises(PermanentError, match=told):
        await log.positions("g", [FACTS])


async def test_a_wrong_password_is_no_fault_of_the_records(
    broker: Broker, options: KafkaOptions, log_of: LogOf
) -> None:
    """They are as good as before, so whoever has them keeps them; the reason is the same."""
    log = log_of(signed_in(options, broker.with_accounts, "PLAIN", "wrong"))

    with pytest.raises(TemporaryError, match="INTEGR8S_KAFKA_PASSWORD"):
        await log.append(numbered_round(0))


async def test_no_account_where_one_is_wanted_is_guessed(
    broker: Broker, options: KafkaOptions, log_of: LogOf
) -> None:
    """A broker that wants one says nothing; we say what it may be."""
    log = log_of(replace(options, servers=broker.with_accounts))

    with pytest.raises(TemporaryError, match="INTEGR8S_KAFKA_SASL_MECHANISM"):
        await log.ping()


async def test_an_account_where_there_are_none_is_said(
    broker: Broker, options: KafkaOptions, log_of: LogOf
) -> None:
    """The port without accounts is named as such."""
    log = log_of(signed_in(options, broker.servers))

    with pytest.raises(PermanentError, match="no accounts on this port"):
        await log.ping()


async def test_tls_lets_in(broker: Broker, options: KafkaOptions, log_of: LogOf) -> None:
    """With the certificates of its authority a broker is trusted, and everything works."""
    await make_topics(options)
    way_in = signed_in(options, broker.with_tls)

    assert await works(log_of(replace(way_in, tls=True, ca_file=broker.authority)))


async def test_a_stranger_is_not_trusted(
    broker: Broker, options: KafkaOptions, log_of: LogOf
) -> None:
    """A certificate that nobody we know vouches for ends it, with the setting to correct."""
    log = log_of(replace(signed_in(options, broker.with_tls), tls=True))

    with pytest.raises(PermanentError, match=r"is not trusted .* INTEGR8S_KAFKA_CA_FILE"):
        await log.ping()


async def test_certificates_that_are_missing_are_noticed_at_once(
    options: KafkaOptions, tmp_path: Path
) -> None:
    """Before anything is connected."""
    with pytest.raises(StartupError, match="INTEGR8S_KAFKA_CA_FILE"):
        KafkaEventLog(replace(options, tls=True, ca_file=tmp_path / "missing.pem"))
