"""A system that is killed and started again on one data directory, and what its clients know."""

import asyncio
import hashlib
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

from shared.domain.executions import TERMINAL
from shared.runtime import wiring
from shared.runtime.evidence import Call, Caps, Evidence, Frame, Stream, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.invariants import check_all
from shared.runtime.wiring import Stored
from tests.bench.client import Client, Refused
from tests.bench.server import Server

needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap (bwrap) is not installed"
)
HELLO = "print('hello')"
QUICKLY = "echo hello"
"""For bash, which starts in a tenth of the time that Python takes."""
LONG = "import time\nprint('here', flush=True)\ntime.sleep(120)"
_SLOTS_AT_MOST = 128
_LOOK = 0.02


def now() -> datetime:
    """Return the wall time."""
    return datetime.fromtimestamp(time(), tz=UTC)


async def pause(seconds: float) -> None:
    """Let time pass: between two looks, or to choose the moment of a fault."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Look again and again until something holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await is_so():
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await pause(_LOOK)


@dataclass(slots=True)
class Machine:
    """One data directory, the server that runs on it at the moment, and the clients' ledger."""

    data_dir: Path
    settings: dict[str, str]
    mark: str = field(default_factory=lambda: f"crash-test-{uuid.uuid1().hex}")
    """An argument of every script: by it the processes of this test are told from all others."""
    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    user_id: str = ""
    _server: Server | None = None
    _client: Client | None = None

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

    # ----------------------------------------------------------------------------------- clients

    @property
    def asking(self) -> Client:
        """Return the client that asks one thing at a time."""
        assert self._client is not None, "it is down"
        return self._client

    async def submit(self, script: str, *, lang: str = "python", timeout_seconds: int = 60) -> str:
        """Submit a script and note what was answered."""
        execution_id = await self.asking.submit(
            script, lang=lang, timeout_seconds=timeout_seconds, args=[self.mark]
        )
        self.note(script, 200, execution_id)
        return execution_id

    def note(
        self, script: str, status: int | None, execution_id: str | None, key: str | None = None
    ) -> None:
        """Enter a submit into the ledger."""
        self.calls.append(
            Call(
                at=now(),
                operation="submit",
                user_id=self.user_id,
                status=status,
                execution_id=execution_id,
                script=script,
                key=key,
                fingerprint=hashlib.sha256(script.encode()).hexdigest(),
            )
        )

    async def executions(self) -> dict[str, dict[str, Any]]:
        """Return all executions by id, newest first."""
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            page = await self.asking.get(f"/user/executions?limit=200{cursor}")
            found |= {one["execution_id"]: one for one in page["executions"]}
            if not page["has_more"]:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def until_status(self, ids: Collection[str], *statuses: str, seconds: float) -> None:
        """Wait until each of some executions is in one of some states."""
        seen: dict[str, str] = {}

        async def reached() -> bool:
            known = await self.executions()
            seen.update({one: known[one]["status"] for one in ids if one in known})
            return all(seen.get(one) in statuses for one in ids)

        try:
            await until(reached, seconds, f"all {len(ids)} are {' or '.join(statuses)}")
        except AssertionError as error:
            error.add_note(str({one: seen.get(one) for one in ids}))
            raise

    async def until_at_rest(self, *, seconds: float = 30) -> dict[str, dict[str, Any]]:
        """Wait until all is over, cleaned up and read by everybody; return all executions."""

        async def is_quiet() -> bool:
            queue = await self.asking.get("/admin/executions/queue")
            if queue["queue_depth"] or queue["active_count"]:
                return False
            known = await self.executions()
            if any(one["status"] not in TERMINAL for one in known.values()):
                return False
            scaling = await self.asking.get("/admin/scaling")
            if any(sum(function["lag"].values()) for function in scaling["functions"]):
                return False
            return all([await self._saga_is_over(one) for one in known])

        await until(is_quiet, seconds, "everything is at rest")
        return await self.executions()

    async def _saga_is_over(self, execution_id: str) -> bool:
        events = await self.asking.get(f"/executions/{execution_id}/events?limit=200")
        ends = {"saga.completed", "saga.failed", "saga.cancelled"}
        return any(event["event_type"] in ends for event in events)

    async def follow(self, execution_id: str) -> Stream:
        """Follow an execution to the end that the server makes, and note every frame."""
        client = await self.client()
        frames = []
        path = f"/api/v1/events/executions/{execution_id}?include=execution,pod,result,output,saga"
        try:
            async for message in client.streams.stream(path):
                event_type = message.json()["event_type"]
                # The last word about the stream repeats the number of the last event.
                number = message.id if message.name == "message" else None
                frames.append(Frame(number, message.name, event_type))
        finally:
            client.close()
        stream = Stream("follower", execution_id, tuple(frames), complete=True)
        self.streams.append(stream)
        return stream

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
        digest = hashlib.sha256(os.fsencode(self.data_dir.resolve())).hexdigest()[:12]
        return [
            os.path.join(folder, name)  # noqa: PTH118 - as os.walk says it
            for folder, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name == f"integr8s-{digest}"
        ]

    async def until_no_process(self, *, seconds: float = 3) -> None:
        """Wait until no process of any sandbox is left: the kernel takes a moment to kill."""

        async def is_gone() -> bool:
            return not self.processes()

        await until(is_gone, seconds, f"no process is left of {self.processes()}")


@asynccontextmanager
async def machine(folder: Path, **settings: str | int) -> AsyncIterator[Machine]:
    """Return a machine with a server that is up; at the end nothing of it runs."""
    named = {f"INTEGR8S_{name.upper()}": str(value) for name, value in settings.items()}
    made = Machine(folder / "data", named)
    await made.up()
    try:
        yield made
    finally:
        made.end()


def ends_of(known: dict[str, dict[str, Any]], ids: Sequence[str]) -> set[tuple[str, str | None]]:
    """Return the different ends that some executions came to."""
    return {(known[one]["status"], known[one]["error_type"]) for one in ids}


async def submit_surely(
    world: Machine, script: str, key: str, *, lang: str, is_up: asyncio.Event
) -> str | None:
    """Send one request, under one key, as often as it takes; note every answer.

    Returns None where the key is still leased to a process that is dead.
    """
    while True:
        await is_up.wait()
        try:
            client = await world.client()
        except (OSError, AssertionError):
            await pause(_LOOK)
            continue
        try:
            execution_id = await client.submit(script, lang=lang, key=key, args=[world.mark])
        except ConnectionError:
            world.note(script, None, None, key)
            await pause(_LOOK)
        except Refused as refused:
            world.note(script, refused.status, None, key)
            if refused.status == 409:
                return None
            if refused.status != 503:
                raise
            await pause(_LOOK)
        else:
            world.note(script, 200, execution_id, key)
            return execution_id
        finally:
            client.close()
