"""A Kafka of the tests' own, which may be frozen and killed, and which has accounts and TLS."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from shared.adapters.kafka.options import KafkaOptions
from tests.engines import paths, process
from tests.engines.kafka.engine import Kafka

USER, PASSWORD = "integr8s", "correct horse"
_KEY_PASSWORD = "battery staple"
_PORTS = 5


class Broker(Kafka):
    """One broker with a listener for each way in."""

    name = "kafka-under-test"

    @cached_property
    def _first_port(self) -> int:
        return _free_ports(_PORTS)

    @property
    def _port(self) -> int:
        return self._first_port

    @property
    def servers(self) -> tuple[str, ...]:
        """Return the address without accounts."""
        return (f"127.0.0.1:{self._port}",)

    @property
    def with_accounts(self) -> tuple[str, ...]:
        """Return the address that asks who is there."""
        return (f"127.0.0.1:{self._port + 3}",)

    @property
    def with_tls(self) -> tuple[str, ...]:
        """Return the address that asks who is there, and that nobody can listen to."""
        return (f"127.0.0.1:{self._port + 4}",)

    @property
    def authority(self) -> Path:
        """Return the certificate that the broker's is trusted by."""
        return self._folder / "broker.pem"

    def add_account(self) -> None:
        """Make the account for both kinds of SCRAM; PLAIN has it from the start."""
        client = KafkaAdminClient(**KafkaOptions(self.servers).client())
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            account = UserScramCredentialUpsertion(USER, mechanism, PASSWORD)
            client.alter_user_scram_credentials([account])
        client.close()

    def freeze(self) -> None:
        """Let it hang, as a machine without a processor."""
        process.pause(self.name)

    def thaw(self) -> None:
        """Let it go on."""
        process.resume(self.name)

    def kill(self) -> None:
        """End it as a power switch would."""
        process.kill(self.name)

    def _prepare(self) -> None:
        super()._prepare()
        self._make_certificate()
        sasl, tls = self.with_accounts[0], self.with_tls[0]
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        # What comes later in the file wins.
        with self._settings.open("a") as settings:
            settings.write(
                f"""
listeners=HOST://{self.servers[0]},CTL://127.0.0.1:{self._port + 1},SASL://{sasl},TLS://{tls}
advertised.listeners=HOST://{self.servers[0]},SASL://{sasl},TLS://{tls}
listener.security.protocol.map=HOST:PLAINTEXT,CTL:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PKCS12
ssl.keystore.location={self._folder / "broker.p12"}
ssl.keystore.password={_KEY_PASSWORD}
"""
            )
            for listener in ("sasl", "tls"):
                settings.write(
                    f"""
listener.name.{listener}.plain.sasl.jaas.config={plain} user_{USER}="{PASSWORD}";
listener.name.{listener}.scram-sha-256.sasl.jaas.config={scram}
listener.name.{listener}.scram-sha-512.sasl.jaas.config={scram}
"""
                )

    def _make_certificate(self) -> None:
        store = self._folder / "broker.p12"
        if store.exists():
            return
        keytool = ["keytool", "-keystore", str(store), "-storepass", _KEY_PASSWORD]
        made = ["-genkeypair", "-alias", "broker", "-keyalg", "EC", "-dname", "CN=broker"]
        named = ["-ext", "san=ip:127.0.0.1", "-storetype", "PKCS12"]
        shown = ["-exportcert", "-rfc", "-alias", "broker", "-file", str(self.authority)]
        for command in ([*keytool, *made, *named], [*keytool, *shown]):
            subprocess.run(command, check=True, capture_output=True)


@contextmanager
def running(state: Path) -> Iterator[Broker]:
    """Run a broker whose data lie in a folder of their own."""
    with ExitStack() as undone:
        undone.callback(setattr, paths, "STATE", paths.STATE)
        paths.STATE = state
        broker = Broker()
        undone.callback(broker.stop)
        broker.start()
        broker.add_account()
        yield broker


def _free_ports(count: int) -> int:
    """Return the first of some ports in a row that nobody listens on."""
    while True:
        with ExitStack() as opened:
            first = opened.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    opened.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return int(first)
