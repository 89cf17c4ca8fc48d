"""The control plane as processes of this machine, on the real engines, with pods that pretend.

What pods of functions, KEDA and Knative cost is not in what is measured with it.
"""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import httpx2

from shared.runtime.settings import Settings
from tests.bench.client import Client
from tests.bench.server import ADMIN_PASSWORD, ROOT, Server, environment
from tests.cluster.reset import reset
from tests.engines import process
from tests.ledger import pause

DATABASE: Final = "integr8s_bench"
PUMPS: Final = ("coordinate", "saga-step", "persist-result", "relay-events")
EXECUTORS: Final = "executors"
"""Launch-pod and monitor-pods in one process, which they share the pretended pods of."""
_ENGINES: Final = ("kafka", "mongo", "redis")
_READY_SECONDS: Final = 60.0
_LOOK: Final = 0.005
_GATEWAY_READY = "the gateway is ready"
PUMP_READY: Final = "consumes its topics"
_EXECUTORS_READY = "ready"


class Broken(Exception):
    """A process of the control plane ended, or never got ready."""


@dataclass(slots=True)
class ControlPlane:
    """The processes, and one user of them."""

    folder: Path
    variables: Mapping[str, str]
    port: int
    processes: dict[str, Server] = field(default_factory=dict)
    key: str = ""

    async def client(self) -> Client:
        """Return a new client of the user."""
        return await Client.open("127.0.0.1", self.port, self.key)

    def spawn(self, name: str, words: Sequence[str]) -> Server:
        """Start a process without waiting for it."""
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as out:
            started = subprocess.Popen(
                [*_dying_with_us(), sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment(self.folder, self.variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        server = self.processes[name] = Server(started, self.folder, log)
        return server

    def spawn_pump(self, slug: str) -> Server:
        """Start a function as its container does, without waiting for it."""
        return self.spawn(slug, ["gateway", "pump", slug])

    async def start(self) -> None:
        """Make topics and indexes, start every process, and sign the user in.

        Raises:
            Broken: One of them does not start.
        """
        setup = self.spawn("setup", ["gateway", "setup"])
        if await asyncio.to_thread(setup.process.wait, _READY_SECONDS):
            raise Broken(f"the setup failed\n{_end_of(setup.log)}")
        del self.processes["setup"]
        self.spawn("gateway", ["gateway", "gateway"])
        self.spawn(EXECUTORS, ["tests.bench.scripted_executors"])
        for slug in PUMPS:
            self.spawn_pump(slug)
        await self.until_said("gateway", _GATEWAY_READY)
        await self.until_said(EXECUTORS, _EXECUTORS_READY)
        for slug in PUMPS:
            await self.until_said(slug, PUMP_READY)
        self.key = await asyncio.to_thread(self._new_key)

    async def until_said(self, name: str, words: str) -> None:
        """Wait until a process has logged something.

        Raises:
            Broken: It ended, or does not say it.
        """
        server, until = self.processes[name], monotonic() + _READY_SECONDS
        while words not in server.log.read_text(errors="replace"):
            if server.process.poll() is not None or monotonic() > until:
                raise Broken(f"{name} does not say {words!r}\n{_end_of(server.log)}")
            await pause(_LOOK)

    async def stop(self, name: str) -> None:
        """Ask a process to end, and wait until it has."""
        await asyncio.to_thread(self.processes.pop(name).stop)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor time of our processes and of the engines so far."""
        pids = {name: server.process.pid for name, server in self.processes.items()}
        for name in _ENGINES:
            if found := process.running(name):
                pids[name] = found.pid
        return {name: _cpu_seconds(pid) for name, pid in pids.items()} | {"bench": _cpu_seconds()}

    async def end(self) -> None:
        """End every process, in whatever state it is."""
        left = [server for server in self.processes.values() if server.process.poll() is None]
        for server in left:
            server.process.terminate()
        for server in left:
            try:
                await asyncio.to_thread(server.process.wait, 10)
            except subprocess.TimeoutExpired:
                server.kill()
        self.processes.clear()

    def _new_key(self) -> str:
        base = f"http://127.0.0.1:{self.port}/api/v1"
        with httpx2.Client(base_url=base, timeout=30, trust_env=False) as http:
            sign_in = {"username": "admin", "password": ADMIN_PASSWORD}
            token = http.post("/auth/login", data=sign_in).raise_for_status().json()["csrf_token"]
            wanted = {"name": "bench", "scopes": ["execute", "read"]}
            made = http.post("/api-keys", json=wanted, headers={"X-CSRF-Token": token})
            key: str = made.raise_for_status().json()["key"]
            return key


@asynccontextmanager
async def control_plane(
    engines: Settings, folder: Path, **settings: str
) -> AsyncIterator[ControlPlane]:
    """Run the control plane on empty topics and a database of its own; nothing of it is left.

    Nobody else may use the topics meanwhile: the groups are those of an installation.
    """
    ours = engines.model_copy(update={"mongo_database": DATABASE})
    port = _free_port()
    plane = ControlPlane(folder, _variables(port, settings), port)
    try:
        await reset(ours)
        await plane.start()
        yield plane
    finally:
        await plane.end()
        await reset(ours)


def _variables(port: int, settings: Mapping[str, str]) -> dict[str, str]:
    addresses = ("KAFKA_SERVERS", "MONGO_URL", "REDIS_URL")
    given = {f"INTEGR8S_{name}": os.environ[f"INTEGR8S_{name}"] for name in addresses}  # noqa: TID251 - what the engines were started with
    return {
        **given,
        "INTEGR8S_ENABLE_EVENT_STREAMING": "true",
        "INTEGR8S_MONGO_DATABASE": DATABASE,
        "INTEGR8S_SECRET_KEY": secrets.token_urlsafe(48),
        "INTEGR8S_PORT": str(port),
        "INTEGR8S_HEALTH_PORT": "0",
        "INTEGR8S_LOG_LEVEL": "INFO",
        **{f"INTEGR8S_{name.upper()}": value for name, value in settings.items()},
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _dying_with_us() -> list[str]:
    """Return what lets the kernel end a process with ours, whatever ends ours."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _cpu_seconds(pid: int | None = None) -> float:
    """Return what all threads of a process used, those that have ended among them."""
    told = Path(f"/proc/{pid or 'self'}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
