"""A system that is killed and started again on one data directory, and what its clients know."""

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shared.adapters.sandbox import groups
from shared.runtime.evidence import Caps, Evidence, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.invariants import check_all
from shared.runtime.wiring import embedded as wiring
from shared.runtime.wiring.embedded import Stored
from tests.bench.client import Client
from tests.bench.server import Server
from tests.ledger import Ledger, now, until

needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap (bwrap) is not installed"
)
HELLO = "print('hello')"
QUICKLY = "echo hello"
"""For bash, which starts in a tenth of the time that Python takes."""
LONG = "import time\nprint('here', flush=True)\ntime.sleep(120)"
_SLOTS_AT_MOST = 128


@dataclass(slots=True, kw_only=True)
class Machine(Ledger):
    """One data directory, the server that runs on it at the moment, and the clients' ledger."""

    data_dir: Path
    settings: dict[str, str]
    mark: str = field(default_factory=lambda: f"crash-test-{uuid.uuid1().hex}")
    """An argument of every script: by it the processes of this test are told from all others."""
    _server: Server | None = None
    _client: Client | None = None

    def __post_init__(self) -> None:
        """Let every script carry the mark."""
        self.arguments = (self.mark,)

    # ------------------------------------------------------------------------------- life, death

    @property
    def server(self) -> Server:
        """Return the running server."""
        assert self._server is not None, "it is down"
        return self._server

    async def up(self) -> None:
        """Start the server, on whatever the last one left."""
        self._server = await asyncio.to_thread(Server.start, self.data_dir, self.settings)
        self._client = await self.client()
        self.user_id = (await self._client.get("/auth/me"))["user_id"]

    async def client(self) -> Client:
        """Return a new client of the server's owner."""
        return await Client.open(self.server.host, self.server.port, self.server.key)

    async def crash(self) -> None:
        """End the server as kill -9 does."""
        self._hang_up()
        await asyncio.to_thread(self.server.kill)
        self._server = None

    async def down(self) -> tuple[float, int]:
        """Ask the server to stop; return the seconds that it took and its exit code."""
        self._hang_up()
        server, self._server = self.server, None
        return await asyncio.to_thread(server.stop), server.process.returncode

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def kill_redis(self) -> None:
        """End the redis-server of the system, and nobody else's, as kill -9 does."""
        names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in self.server.tree()}
        (pid,) = [pid for pid, name in names.items() if name.startswith(("redis", "valkey"))]
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave no server behind, however the test ended."""
        self._hang_up()
        if self._server is not None:
            self._server.end()

    @property
    def asking(self) -> Client:
        """Return the client that asks one thing at a time."""
        assert self._client is not None, "it is down"
        return self._client

    # ---------------------------------------------------------------------------------- evidence

    async def violations(self) -> list[str]:
        """Judge every invariant by what a clean stop left on the disk and clients remember."""
        assert self._server is None, "stop it first"
        return [str(violation) for violation in check_all(await self._evidence())]

    async def _evidence(self) -> Evidence:
        functions = [load(slug).spec for slug in SLUGS]
        stored = Stored.open(self.data_dir / "integr8s.db")
        try:
            found = await gather(
                stored.collections,
                stored.log,
                groups={spec.slug: spec.topics for spec in functions if spec.topics},
                pods=(),
                at=now(),
            )
        finally:
            await stored.store.close()
        assert not found.documents["sandbox_pods"], "the sandbox's list of pods is not empty"
        slots = int(self.settings.get("INTEGR8S_MAX_CONCURRENT_EXECUTIONS", "10"))
        queued = int(self.settings.get("INTEGR8S_QUEUED_PER_USER", "100"))
        caps = Caps(slots=slots, queued_per_user=queued)
        return replace(found, calls=self.calls, streams=self.streams, caps=caps, quiet=True)

    def processes(self) -> list[str]:
        """Return the processes of this test's sandboxes, by their argument and by their user."""
        base = wiring._base_uid(self.data_dir)
        ours = range(base, base + _SLOTS_AT_MOST) if os.geteuid() == 0 else range(0)
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if self.mark.encode() in words or folder.stat().st_uid in ours:
                    found.append(f"{folder.name} {words[:80]!r}")
        return found

    def groups(self) -> list[str]:
        """Return the control groups of this data directory, those of all its processes."""
        ours = groups.name_of(self.data_dir)
        return [
            os.path.join(folder, name)  # noqa: PTH118 - as os.walk says it
            for folder, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name == ours
        ]

    async def until_no_process(self, *, seconds: float = 3) -> None:
        """Wait until nothing of any sandbox runs: the kernel takes a moment to kill.

        One that was just being made may leave bubblewrap's second process, which waits for a word
        of the first for ever. It has begun nothing, and the next start removes it with its group.
        """
        left: list[str] = []

        async def is_gone() -> bool:
            left[:] = [one for one in self.processes() if not _waits_for_the_dead(one.split()[0])]
            return not left

        try:
            await until(is_gone, seconds, "no process is left")
        except AssertionError as error:
            error.add_note(str(left))
            raise


def _waits_for_the_dead(pid: str) -> bool:
    """Return whether a process is bubblewrap's own inside a sandbox that is not made yet."""
    with suppress(OSError):
        status = dict(
            line.split(":\t", 1) for line in Path("/proc", pid, "status").read_text().splitlines()
        )
        return status["Name"] == "bwrap" and len(status["NSpid"].split()) > 1
    return False


@asynccontextmanager
async def machine(folder: Path, **settings: str | int) -> AsyncIterator[Machine]:
    """Return a machine with a server that is up; at the end nothing of it runs."""
    named = {f"INTEGR8S_{name.upper()}": str(value) for name, value in settings.items()}
    made = Machine(data_dir=folder / "data", settings=named)
    await made.up()
    try:
        yield made
    finally:
        made.end()
