"""An installation for one test: a database of its own, its processes, and a user."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from shared.adapters.system.ids import SystemIds
from tests.cli.entries import ROOT, Entry, free_port, get
from tests.integration.runtime.own_engines import OwnEngines

PASSWORD = "correct horse battery"
SECRET = "7d1f4c0b2a9e8d3c6b5a4f3e2d1c0b9a"
_COMMAND = "from gateway.cli import main; main()"
_LOOK_SECONDS = 0.05


def until(is_so: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    """Look again and again until something holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK_SECONDS)  # noqa: TID251 - between two looks at another process


@dataclass
class System:
    """What its processes have in common."""

    engines: OwnEngines
    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)
    database: str = field(default_factory=lambda: f"test_{SystemIds().new().replace('-', '')}")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the settings of one process, with ports that nobody else has."""
        return {
            **self.engines.addresses,
            "INTEGR8S_ENABLE_EVENT_STREAMING": "true",
            "INTEGR8S_MONGO_DATABASE": self.database,
            "INTEGR8S_DATA_DIR": str(self.folder),
            "INTEGR8S_SECRET_KEY": SECRET,
            "INTEGR8S_ADMIN_PASSWORD": PASSWORD,
            "INTEGR8S_RATE_LIMIT_ENABLED": "false",
            "INTEGR8S_PORT": str(free_port()),
            "INTEGR8S_HEALTH_PORT": str(free_port()),
            **self.more,
            **more,
        }

    def command(self, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `integr8s ...` to its end."""
        environment = {
            "PATH": os.environ["PATH"],  # noqa: TID251 - as every process has it
            "HOME": str(self.folder),
            **self.environment(**more),
        }
        return subprocess.run(
            [sys.executable, "-P", "-c", _COMMAND, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def set_up(self) -> None:
        """Make topics, first offsets and indexes."""
        done = self.command("setup")
        assert not done.returncode, done.stdout + done.stderr

    def start(self, *arguments: str, **more: str) -> "Running":
        """Start one process of it."""
        environment = self.environment(**more)
        return Running(Entry(*arguments, environment=environment), environment)

    @contextmanager
    def gateway(self) -> "Iterator[Running]":
        """Run a gateway that is ready."""
        with self.start("gateway") as gateway:
            gateway.entry.wait_for("the gateway is ready")
            yield gateway

    @contextmanager
    def pump(self, slug: str) -> "Iterator[Running]":
        """Run a function that consumes."""
        with self.start("pump", slug) as pump:
            pump.entry.wait_for("consumes its topics")
            yield pump


@dataclass
class Running:
    """One process and where it is reached."""

    entry: Entry
    environment: Mapping[str, str]

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process behind."""
        self.entry.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        """Return where it serves."""
        return int(self.environment["INTEGR8S_PORT"])

    def readiness(self) -> tuple[int, Any]:
        """Return what a prober of a pump is told."""
        return get(int(self.environment["INTEGR8S_HEALTH_PORT"]), "/health/readiness")

    def ready(self) -> tuple[int, Any]:
        """Return what a prober of the gateway is told."""
        return get(self.port, "/api/v1/health/ready")


class User:
    """The administrator at one gateway, by an API key."""

    def __init__(self, gateway: Running) -> None:
        """Sign in and make a key."""
        self._port = gateway.port
        form = urlencode({"username": "admin", "password": PASSWORD})
        status, signed_in, answer = self._request(
            "POST",
            "/auth/login",
            form,
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert status == 200, signed_in
        cookies = [one.partition(";")[0] for one in answer.headers.get_all("set-cookie") or ()]
        headers = {"Cookie": "; ".join(cookies), "X-CSRF-Token": signed_in["csrf_token"]}
        key = {"name": "test", "scopes": ["execute", "read", "admin"]}
        status, made, _ = self._request("POST", "/api-keys", json.dumps(key), headers)
        assert status == 200, made
        self.headers = {"Authorization": f"Bearer {made['key']}"}

    def ask(self, path: str) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, JSON and headers of a read."""
        status, told, answer = self._request("GET", path, None, self.headers)
        return status, told, {name.lower(): value for name, value in answer.getheaders()}

    def submit(self, script: str = "print(1)") -> str:
        """Submit a script; return the id of its execution."""
        status, told, _ = self._request(
            "POST", "/execute", json.dumps({"script": script}), self.headers
        )
        assert status == 200, told
        execution_id: str = told["execution_id"]
        return execution_id

    def status_of(self, execution_id: str) -> str:
        """Return how far an execution has come."""
        status, told, _ = self.ask(f"/executions/{execution_id}")
        assert status == 200, told
        found: str = told["status"]
        return found

    @contextmanager
    def stream(self, execution_id: str) -> Iterator[http.client.HTTPResponse]:
        """Open the stream of an execution."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        path = f"/api/v1/events/executions/{execution_id}"
        connection.request("GET", path, headers=self.headers)
        with closing(connection), connection.getresponse() as stream:
            yield stream

    def _request(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        sent = {"Content-Type": "application/json", **headers}
        connection.request(method, f"/api/v1{path}", body, sent)
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"null")
        connection.close()
        return answer.status, told, answer
