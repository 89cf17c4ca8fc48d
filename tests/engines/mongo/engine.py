"""The document store: a server that speaks MongoDB's wire protocol, for machines without one.

A conditional update of one document is atomic, which is all that the project builds on. Two things
differ from MongoDB: there are no sessions and transactions, and a server that is killed loses the
writes of its last moments. So it is only ever ended by SIGTERM. Indexes are our own addition, see
IndexedBackend.java: without them every look at a document reads its whole collection.
"""

import signal
from pathlib import Path

from tests.engines import doctor, java, paths, ports, process
from tests.engines.build_cache import built, locked
from tests.engines.engine import Engine, EngineError

_HERE = Path(__file__).parent
_PORT = 27017
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - pods come in by the address of their bridge, which is not there yet
_READY_SECONDS = 30.0
_STOP_SECONDS = 60.0
_ANSWER_MS = 2_000
_LOG = "-Dorg.slf4j.simpleLogger"
_JVM = (
    # Its second compiler takes a processor for minutes; nobody here lives long enough to profit.
    *("-Xmx4g", "-Xmn1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    f"{_LOG}.defaultLogLevel=warn",
    # It warns of every index that it leaves to us.
    f"{_LOG}.log.de.bwaldvogel.mongo.backend.AbstractMongoDatabase=error",
)


class Mongo:
    """One server without users, its documents kept in one file between starts."""

    name = "mongo"
    needs: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Return what is missing for the jars, the server and the question whether it answers."""
        return java.lacks(programs=["java", "javac"]) + doctor.missing_modules(
            {"pymongo": doctor.EXTRA}
        )

    def build(self) -> None:
        """Get the jars and compile the server."""
        self._server()

    def start(self) -> None:
        """Start the server on the file of the last one; return when it answers a ping."""
        with locked(paths.STATE / "run" / f"{self.name}.preparing.lock"):
            if not process.running(self.name):
                self._prepare()
            process.start(self.name, self._command())
        process.wait_ready("MongoDB", self._version, seconds=_READY_SECONDS, process=self.name)

    def check(self) -> str:
        """Return where it answers."""
        process.expect_running(self.name)
        try:
            version = self._version()
        except Exception as error:
            raise EngineError(f"no MongoDB answers at {self._address}: start it") from error
        return f"MongoDB {version} at {self._address}"

    def stop(self) -> None:
        """Ask the server to end and wait for it; it is never killed, see above."""
        process.stop(self.name, grace=_STOP_SECONDS, signals=[signal.SIGTERM])

    def logs(self) -> list[Path]:
        """Return its only log."""
        return [process.log_of(self.name)]

    def environment(self) -> dict[str, str]:
        """Return the address for clients on this machine."""
        return {"INTEGR8S_MONGO_URL": f"mongodb://{self._address}"}

    @property
    def _port(self) -> int:
        return ports.chosen(self.name, _PORT)

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def _folder(self) -> Path:
        return paths.STATE / self.name

    def _server(self) -> Path:
        pom, sources = _HERE / "pom.xml", sorted(_HERE.glob("*.java"))

        def make(folder: Path) -> None:
            jars = folder / "lib"
            java.copy_jars(pom, jars)
            java.run(
                ["javac", "-cp", f"{jars}/*", "-d", str(folder / "classes"), *map(str, sources)],
                what="compiling the MongoDB server",
            )

        return built("mongo-server", [pom, *sources], make)

    def _command(self) -> list[str]:
        folder = self._server()
        return [
            doctor.program("java") or "java",
            *_JVM,
            *("-cp", f"{folder}/classes:{folder}/lib/*"),
            "Server",
            *(_EVERYWHERE, str(self._port)),
            str(self._folder / "documents.mv"),
        ]

    def _prepare(self) -> None:
        remedy = f", or move it by {ports.variable_of(self.name)}"
        ports.refuse_taken(self.name, [self._port], remedy=remedy)
        self._folder.mkdir(parents=True, exist_ok=True)

    def _version(self) -> str:
        # Here, so that the list of what is missing can be asked for where this is missing.
        from pymongo import MongoClient  # noqa: PLC0415

        client: MongoClient[dict[str, object]] = MongoClient(
            self.environment()["INTEGR8S_MONGO_URL"], serverSelectionTimeoutMS=_ANSWER_MS
        )
        with client:
            client.admin.command("ping")
            return str(client.server_info()["version"])


def engine() -> Engine:
    """Return the engine, as the catalogue asks for it."""
    return Mongo()
