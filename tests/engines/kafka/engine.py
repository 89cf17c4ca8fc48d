"""The event log: one Kafka node without ZooKeeper, its topics kept between starts."""

import base64
import secrets
import socket
from pathlib import Path
from string import Template
from typing import Any

from tests.engines import doctor, java, paths, ports, process
from tests.engines.build_cache import built, locked
from tests.engines.engine import Engine, EngineError

_HERE = Path(__file__).parent
_PORT = 9092
_PODS_ADDRESS = "10.244.0.1"
"""Where pods find this machine: the bridge that they are all plugged into."""

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ANSWER_MS = 2_000
_JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Little memory and a quick start, for which the peak rate of a long run is given up."""


class Kafka:
    """One broker for clients on this machine and, on a port of its own, for pods."""

    name = "kafka"
    needs: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Return what is missing for the jars, the broker and the question whether it answers."""
        return java.lacks(programs=["java"]) + doctor.missing_modules({"kafka": doctor.EXTRA})

    def build(self) -> None:
        """Get the jars."""
        self._jars()

    def start(self) -> None:
        """Start the broker on the data of the last one; return when it lists its topics."""
        with locked(paths.STATE / "run" / f"{self.name}.preparing.lock"):
            if not process.running(self.name):
                self._prepare()
            process.start(self.name, self._java("kafka.Kafka", str(self._settings)))
        process.wait_ready("Kafka", self._topics, seconds=_READY_SECONDS, process=self.name)

    def check(self) -> str:
        """Return where it answers and how many topics it has."""
        process.expect_running(self.name)
        try:
            topics = self._topics()
        except Exception as error:
            raise EngineError(f"no Kafka answers at {self._address} ({error}): start it") from error
        return f"Kafka at {self._address}, {len(topics)} topics"

    def stop(self) -> None:
        """End the broker; what it has acknowledged survives even a SIGKILL."""
        process.stop(self.name, grace=_STOP_SECONDS)

    def logs(self) -> list[Path]:
        """Return its only log."""
        return [process.log_of(self.name)]

    def environment(self) -> dict[str, str]:
        """Return the address for clients on this machine."""
        return {"INTEGR8S_KAFKA_SERVERS": self._address}

    @property
    def _port(self) -> int:
        return ports.chosen(self.name, _PORT)

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def _folder(self) -> Path:
        return paths.STATE / self.name

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _settings(self) -> Path:
        return self._folder / "server.properties"

    def _jars(self) -> Path:
        pom = _HERE / "pom.xml"
        return built("kafka-jars", [pom], lambda folder: java.copy_jars(pom, folder))

    def _java(self, main: str, *arguments: str) -> list[str]:
        log4j = _HERE / "log4j2.properties"
        return [
            doctor.program("java") or "java",
            *_JVM,
            f"-Dlog4j2.configurationFile={log4j.as_uri()}",
            *("-cp", f"{self._jars()}/*"),
            main,
            *arguments,
        ]

    def _prepare(self) -> None:
        """Write the settings, and format the data folder if this is the first start."""
        all_ports = [self._port, self._port + 1, self._port + 2]
        ports.refuse_taken(
            self.name,
            all_ports,
            remedy=f", or move Kafka by {ports.variable_of(self.name)}",
        )
        self._data.mkdir(parents=True, exist_ok=True)
        template = Template((_HERE / "server.properties").read_text())
        self._settings.write_text(
            template.substitute(
                host_port=all_ports[0],
                controller_port=all_ports[1],
                pods_port=all_ports[2],
                pods_address=_PODS_ADDRESS,
                data=self._data,
            )
        )
        # Formatting writes this file last, so an interrupted one is simply done again.
        if not (self._data / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        # 16 bytes in base64, as Kafka writes identifiers. With the zero in front it never begins
        # with a hyphen, which the tool would take for an option.
        cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).rstrip(b"=")
        java.run(
            self._java(
                "kafka.tools.StorageTool",
                *("format", "--cluster-id", cluster.decode()),
                *("--config", str(self._settings)),
            ),
            what="formatting Kafka's data folder",
        )

    def _topics(self) -> list[str]:
        """Return the topics, once the broker may lead partitions.

        A little earlier it answers already, but fenced: nobody could make a topic.
        """
        # Here, so that the list of what is missing can be asked for where this is missing.
        from kafka.admin import KafkaAdminClient  # noqa: PLC0415

        from shared.adapters.kafka.options import KafkaOptions  # noqa: PLC0415

        # The client tries for seconds, and where that was in vain its thread goes on.
        socket.create_connection(("127.0.0.1", self._port), timeout=_ANSWER_MS / 1_000).close()
        client: Any = KafkaAdminClient(
            # Which brokers are fenced, only newer ones tell.
            **KafkaOptions((self._address,)).client() | {"api_version": None},
            bootstrap_timeout_ms=_ANSWER_MS,
            request_timeout_ms=_ANSWER_MS,
        )
        try:
            if not client.describe_cluster()["brokers"]:
                raise EngineError("the broker is still fenced: ask again")
            return list(client.list_topics())
        finally:
            client.close()


def engine() -> Engine:
    """Return the engine, as the catalogue asks for it."""
    return Kafka()
