"""The signal bus: one Redis with a password and, where its build can, a listener with TLS."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Template

from redis import Redis as Client
from redis.exceptions import RedisError

from tests.engines import doctor, paths, ports, process
from tests.engines.build_cache import locked
from tests.engines.engine import Engine, EngineError
from tests.engines.redis import certificates

_HERE = Path(__file__).parent
_PORT = 6379
_AT_LEAST = 7
"""The first with functions, and what operators are told to run."""

_READY_SECONDS = 10.0
_ANSWER_SECONDS = 1.0


class Redis:
    """One server that keeps nothing but its password and its certificates."""

    name = "redis"
    needs: tuple[str, ...] = ()

    def lacks(self) -> list[str]:
        """Return what is missing; without support for TLS only the second listener is."""
        remedy = f"redis-server {_AT_LEAST} or newer (apt: redis-server)"
        missing = [] if _server() else [remedy]
        return missing + doctor.missing_programs({"openssl": "apt: openssl"})

    def build(self) -> None:
        """Do nothing: it is installed."""

    def start(self) -> None:
        """Start the server; return when every listener answers."""
        with locked(paths.STATE / "run" / f"{self.name}.preparing.lock"):
            if not process.running(self.name):
                self._prepare()
            process.start(self.name, [_server() or "redis-server", str(self._settings)])
        process.wait_ready("Redis", self._version, seconds=_READY_SECONDS, process=self.name)

    def check(self) -> str:
        """Return where it answers."""
        process.expect_running(self.name)
        try:
            version = self._version()
        except (RedisError, OSError) as error:
            raise EngineError(f"no Redis answers at {self._address} ({error}): start it") from error
        also = f", with TLS at port {self._tls_port}" if self._has_tls else ""
        return f"Redis {version} at {self._address}{also}"

    def stop(self) -> None:
        """End the server."""
        process.stop(self.name)

    def logs(self) -> list[Path]:
        """Return its only log."""
        return [process.log_of(self.name)]

    def environment(self) -> dict[str, str]:
        """Return the addresses with the password in them, and the CA of the one with TLS."""
        login = f":{self._password()}@127.0.0.1"
        plain = {"INTEGR8S_REDIS_URL": f"redis://{login}:{self._port}/0"}
        if not self._has_tls:
            return plain
        return {
            **plain,
            "INTEGR8S_REDIS_TLS_URL": f"rediss://{login}:{self._tls_port}/0",
            "INTEGR8S_REDIS_TLS_CA": str(self._tls / "ca.crt"),
        }

    @property
    def _port(self) -> int:
        return ports.chosen(self.name, _PORT)

    @property
    def _tls_port(self) -> int:
        return self._port + 1

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def _folder(self) -> Path:
        return paths.STATE / self.name

    @property
    def _settings(self) -> Path:
        return self._folder / "redis.conf"

    @property
    def _tls(self) -> Path:
        return self._folder / "tls"

    @property
    def _has_tls(self) -> bool:
        return (self._tls / "server.crt").exists()

    def _prepare(self) -> None:
        remedy = f", or move Redis by {ports.variable_of(self.name)}"
        ports.refuse_taken(self.name, [self._port, self._port + 1], remedy=remedy)
        self._folder.mkdir(parents=True, exist_ok=True)
        values = {
            "port": str(self._port),
            "tls_port": str(self._tls_port),
            "password": self._password(),
            "folder": str(self._folder),
            "tls": str(self._tls),
        }
        parts = ["redis.conf"]
        if _can_tls(_server() or ""):
            certificates.make(self._tls)
            parts.append("tls.conf")
        text = "\n".join(Template((_HERE / part).read_text()).substitute(values) for part in parts)
        _write_secret(self._settings, text)

    def _password(self) -> str:
        """Return the password, made up at the first call after a wipe."""
        file = self._folder / "password"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_secret(file, secrets.token_urlsafe(24))
        return file.read_text()

    def _version(self) -> str:
        """Return what it calls itself, once all of its listeners have answered."""
        found = self.environment()
        if self._has_tls:
            with Client.from_url(
                found["INTEGR8S_REDIS_TLS_URL"],
                ssl_ca_certs=found["INTEGR8S_REDIS_TLS_CA"],
                socket_timeout=_ANSWER_SECONDS,
            ) as client:
                client.ping()
        with Client.from_url(found["INTEGR8S_REDIS_URL"], socket_timeout=_ANSWER_SECONDS) as client:
            return str(client.info("server")["redis_version"])


def engine() -> Engine:
    """Return the engine, as the catalogue asks for it."""
    return Redis()


@cache
def _server() -> str | None:
    """Return the first server on the path that is new enough.

    The first of all may not be: a virtual environment can bring an older one of its own.
    """
    return next((path for path in _servers() if _release(path) >= _AT_LEAST), None)


def _servers() -> Iterator[str]:
    for folder in doctor.search_path().split(os.pathsep):
        path = Path(folder) / "redis-server"
        if path.is_file() and os.access(path, os.X_OK):
            yield str(path)


def _release(path: str) -> int:
    told = subprocess.run([path, "--version"], check=False, capture_output=True, text=True).stdout
    found = re.search(r" v=(\d+)", told)
    return int(found[1]) if found else 0


@cache
def _can_tls(path: str) -> bool:
    """Return whether a server knows the option: then it only complains that it has no listener."""
    told = subprocess.run(
        [path, "--port", "0", "--tls-port", "0"], check=False, capture_output=True, text=True
    )
    return "not listen anywhere" in told.stdout


def _write_secret(path: Path, text: str) -> None:
    """Write a file that nobody else can read, not even for a moment."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
