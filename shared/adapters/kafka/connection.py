"""One question to Kafka over a connection of its own, to know whether and why it does not answer.

The driver goes on knocking when it is turned away, and only says that time is up. Here each broker
is asked by itself, so that a wrong password and a missing broker are two different answers.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from kafka import errors
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.metadata import MetadataRequest

from shared.adapters.kafka.errors import failed
from shared.adapters.kafka.options import KafkaOptions
from shared.domain.errors import EngineAway, Integr8sError, PermanentError

_Question = Callable[[KafkaConnectionManager, str], Awaitable[None]]

_TURNED_AWAY = (
    errors.KafkaConnectionError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
)
"""A broker that turns us away closes at once, and the driver may see no more than that."""


def ask(options: KafkaOptions) -> None:
    """Return if one of the brokers lets us in and tells of the others. Blocks.

    Raises:
        TemporaryError: None of them answers.
        PermanentError: One of them does, and turns us away.
        StartupError: The certificates cannot be read.
    """
    told = options.client()
    reason = EngineAway("no Kafka broker is named")
    for server in options.servers:
        try:
            _visit(server, told, options.patience_ms, _metadata)
        except errors.KafkaError as error:
            reason = _reason(server, options, told, error)
            reason.__cause__ = error
        else:
            return
    raise reason


def why(options: KafkaOptions, doing: str, error: errors.KafkaError) -> Integr8sError:
    """Return what to say when something failed, of which the driver may know only that. Blocks."""
    if isinstance(error, errors.KafkaTimeoutError):
        try:
            ask(options)
        except Integr8sError as reason:
            return reason
    return failed(doing, error)


def _visit(server: str, told: dict[str, Any], patience_ms: int, question: _Question) -> None:
    """Ask one broker.

    Raises:
        KafkaError: What it said or did instead.
    """
    net = NetworkSelector(client_id=told["client_id"])
    manager = KafkaConnectionManager(net, **{**told, "bootstrap_servers": [server]})

    async def in_time() -> None:
        [broker] = manager.cluster.bootstrap_brokers()
        asking = manager.call_soon(question, manager, broker.node_id)
        await manager.wait_for(asking, patience_ms)

    try:
        manager.run(in_time)
    finally:
        manager.close()
        net.close()


async def _connection(manager: KafkaConnectionManager, node: str) -> Any:
    return await manager.get_connection(node, refresh_metadata_on_err=False)


async def _greeting(manager: KafkaConnectionManager, node: str) -> None:
    """Be told which requests there are, which needs no account."""
    await _connection(manager, node)


async def _metadata(manager: KafkaConnectionManager, node: str) -> None:
    """Be told which brokers there are, which needs to be let in."""
    connection = await _connection(manager, node)
    answer = await connection.send_request(MetadataRequest(topics=[]))
    if not answer.brokers:
        raise errors.MetadataEmptyBrokerList


def _reason(
    server: str, options: KafkaOptions, told: dict[str, Any], error: errors.KafkaError
) -> EngineAway:
    """Return why a broker does not answer.

    Raises:
        PermanentError: It does, and will never let us in.
    """
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise PermanentError(
            f"the certificate of Kafka at {server} is not trusted ({error}): set"
            " INTEGR8S_KAFKA_CA_FILE to the certificates of its authority"
        ) from error
    if isinstance(error, errors.IllegalSaslStateError):
        raise PermanentError(
            f"Kafka at {server} has no accounts on this port: leave INTEGR8S_KAFKA_SASL_MECHANISM"
            " empty, or use the port that has"
        ) from error
    if isinstance(error, _TURNED_AWAY) and _greets(server, options, told):
        if options.sasl_mechanism is not None:
            raise PermanentError(
                f"Kafka at {server} does not let {options.username} in by {options.sasl_mechanism}"
                f" ({error}): correct INTEGR8S_KAFKA_USERNAME, INTEGR8S_KAFKA_PASSWORD or"
                " INTEGR8S_KAFKA_SASL_MECHANISM"
            ) from error
        return EngineAway(
            f"Kafka at {server} greets us and answers nothing more ({error}): it may want an"
            " account, see INTEGR8S_KAFKA_SASL_MECHANISM"
        )
    return EngineAway(f"no answer from Kafka at {server} ({error})")


def _greets(server: str, options: KafkaOptions, told: dict[str, Any]) -> bool:
    """Say whether a broker is there that would talk to anybody."""
    anybody = {**told, "security_protocol": "SSL" if options.tls else "PLAINTEXT"}
    try:
        _visit(server, anybody, options.patience_ms, _greeting)
    except errors.KafkaError:
        return False
    return True
