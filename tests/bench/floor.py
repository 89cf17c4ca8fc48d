"""The floor: the same interpreter and script without any service, bare and in a sandbox.

The sandboxed interpreter is bubblewrap with exactly the flags that the sandbox adapter gives it:
namespaces, mounts, filter. What our own process 1, the change of user and the control group cost on
top of that counts as ours.
"""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import Final, Self

from shared.adapters.sandbox import arguments
from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from shared.domain.runtimes import LANGUAGES, Offer
from shared.ports.cluster import PodOutput, PodPhase, PodSpec, Runtime
from tests.bench.client import HELLO

_BASE_UID: Final = 300_000
_SLOTS: Final = 64


class _Clock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.fromtimestamp(time(), tz=UTC)

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, duration: timedelta) -> None:
        """Wait."""
        await pause(duration.total_seconds())


class _Ids:
    """Numbers."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new(self) -> str:
        """Return the next."""
        return f"bench-{next(self._numbers)}"


async def pause(seconds: float) -> None:
    """Let the loop go on for a while."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


class Floor:
    """What is measured beside the service; `open` it."""

    def __init__(self, folder: Path, cluster: SandboxCluster) -> None:
        """Take a started sandbox cluster, whose view of the machine is the sandbox's."""
        self._cluster = cluster
        self._numbers = count(1)
        version = Offer(cluster.offered.versions()).default_version("python")
        self.interpreter = cluster.offered.interpreters["python", version]
        self._script = folder / "main.py"
        self._script.write_text(HELLO)
        self._script.chmod(0o644)
        self._spec = self._spec_of("floor")
        self._environment = dict(self._job().environment)

    @classmethod
    async def open(cls, stack: AsyncExitStack) -> Self:
        """Start what is needed; the stack ends it.

        Raises:
            StartupError: This machine cannot run sandboxes.
        """
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="i8s-bench-floor-")))
        cluster = SandboxCluster(
            folder=folder,
            ledger=MemoryLedger(),
            clock=_Clock(),
            ids=_Ids(),
            slots=_SLOTS,
            base_uid=_BASE_UID,
        )
        await cluster.start()
        stack.push_async_callback(cluster.stop)
        return cls(folder, cluster)

    @property
    def groups(self) -> str:
        """Return how resources are bounded on this machine."""
        return self._cluster._groups.kind

    def bare(self) -> float:
        """Return the seconds of one run of the bare interpreter, from spawn to reaped."""
        command = [*self.interpreter.command, str(self._script)]
        return _timed(command, self._environment, [])

    def sandboxed(self) -> float:
        """Return the seconds of one run in bubblewrap, from spawn to reaped."""
        host = self._cluster._host
        if host is None or host.filter_path is None:
            raise RuntimeError("the sandbox cluster is not running")
        job = self._job()
        words = arguments.bubblewrap(job, host.view)
        own = words.index("--as-pid-1")
        variables = [
            part for name, value in job.environment.items() for part in ("--setenv", name, value)
        ]
        command = [*words[:own], "--clearenv", *variables, "--", *job.command]
        opened = [
            (arguments.FILTER, host.filter_path),
            (arguments.FIRST_FILE, str(self._script)),
        ]
        return _timed(command, {}, opened)

    async def chain(self) -> float:
        """Return the seconds of one run by the sandbox adapter, from `create` to its end."""
        name = f"exec-{next(self._numbers)}"
        spec = self._spec_of(name)
        begun = perf_counter()
        watch = self._cluster.watch()
        await self._cluster.create(spec)
        async for item in watch:
            ended = not isinstance(item, PodOutput) and item.phase is PodPhase.ENDED
            if ended and item.name == name:
                break
        taken = perf_counter() - begun
        await watch.aclose()  # type: ignore[attr-defined]
        await self._cluster.delete(name, grace=timedelta(0))
        return taken

    async def parallel(self, workers: int, seconds: float) -> float:
        """Return how many sandboxed runs a second so many workers reach together."""
        until = monotonic() + seconds
        loop = asyncio.get_running_loop()
        begun = monotonic()
        with ThreadPoolExecutor(workers) as pool:
            done = await asyncio.gather(
                *(loop.run_in_executor(pool, self._until, until) for _ in range(workers))
            )
        return sum(done) / (monotonic() - begun)

    def _until(self, instant: float) -> int:
        runs = 0
        while monotonic() < instant:
            self.sandboxed()
            runs += 1
        return runs

    def _job(self) -> arguments.Job:
        """Return the job; as root a hidden prefix can be shown without our own help."""
        binds = self._cluster._binds(self.interpreter)
        return arguments.job_of(
            self._spec,
            interpreter=self.interpreter.command,
            folder=self.interpreter.folder,
            binds=tuple(replace(bind, shown_at=None) for bind in binds),
        )

    def _spec_of(self, name: str) -> PodSpec:
        entry = LANGUAGES["python"]
        return PodSpec(
            name=name,
            execution_id=name,
            saga_id=name,
            user_id="bench",
            runtime=Runtime(
                language="python",
                version=self.interpreter.version,
                image="",
                command=entry.command,
                filename=entry.filename,
                environment=entry.environment_of_run(),
            ),
            script=HELLO.encode(),
        )


def _timed(command: list[str], environment: dict[str, str], opened: list[tuple[int, str]]) -> float:
    """Run a command to its end, read what it prints, and return the seconds.

    Raises:
        RuntimeError: It did not say hello.
    """
    begun = perf_counter()
    reader, writer = os.pipe()
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, writer, 1),
        *((os.POSIX_SPAWN_OPEN, fd, path, os.O_RDONLY, 0) for fd, path in opened),
    ]
    try:
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    finally:
        os.close(writer)
    printed = b""
    while data := os.read(reader, 4096):
        printed += data
    os.close(reader)
    os.waitpid(pid, 0)
    taken = perf_counter() - begun
    if printed != b"hello, world\n":
        raise RuntimeError(f"{command[0]} printed {printed!r}")
    return taken
