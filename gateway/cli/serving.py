"""The server process: gateway and functions in one event loop, from the first check to the last."""

import argparse
import asyncio
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from gateway.cli.environment import KEY_FILE
from gateway.cli.report import Log, Pipe, Ready, Report
from gateway.cli.running import Running, birth_of
from shared.domain.errors import StartupError
from shared.domain.times import rfc3339
from shared.runtime.logs import JsonLines, log_to
from shared.runtime.process import loop_factory, spare_the_collector
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    # Half a second of modules that are read while the engines start.
    from shared.runtime.local import EmbeddedSystem

_LOG = logging.getLogger("gateway.cli")
_DRAIN = timedelta(seconds=2)
"""How long answers may take that are open when the streams have gone."""
_STOP_SECONDS = 6.0
"""Time that engines get to stop. What they leave undone is taken up by the next start."""
_UNCLEAN = 1
_FORCED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How this process begins and ends."""

    report: Report
    with_parent: bool = False
    """Whether to end when standard input does: it is a pipe that the parent holds."""
    remove_data: bool = False
    """Whether the data directory is nobody's and goes with the process."""


def up_for_machines() -> int:
    """Serve as `python -m gateway` is asked to, with JSON lines as log; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The server process.")
    parser.add_argument("--ready-fd", type=int, help="descriptor for JSON lines about the start")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    parser.add_argument("--remove-data", action="store_true", help="remove the data at the end")
    chosen = parser.parse_args()
    pipe = Pipe(chosen.ready_fd) if chosen.ready_fd is not None else None
    try:
        settings = Settings.read()
    except StartupError as error:
        if pipe is not None:
            pipe.failed(error)
        sys.stderr.write(f"integr8s: {error}\n")
        return _UNCLEAN
    log_to(level=settings.log_level, formatter=JsonLines())
    life = Life(
        report=pipe or Log(settings.data_dir),
        with_parent=chosen.with_parent,
        remove_data=chosen.remove_data,
    )
    return up(settings, life)


def up(settings: Settings, life: Life) -> int:
    """Serve until asked to stop; return the exit code."""
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(settings, life))
    except StartupError as error:
        life.report.failed(error)
        return _UNCLEAN
    finally:
        if life.remove_data:
            shutil.rmtree(settings.data_dir, ignore_errors=True)


class _Leaving:
    """Is asked to leave: by a signal, or by the end of the process that started this one."""

    def __init__(self, life: Life, folder: Path) -> None:
        self.asked = asyncio.Event()
        self._report = life.report
        self._folder = folder
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signal)
        if life.with_parent:
            loop.add_reader(sys.stdin.fileno(), self._parent)

    def _signal(self) -> None:
        if not self.asked.is_set():
            self._report.leaving()
            self.asked.set()
            return
        # As after a kill: nothing that was accepted is lost, and sandboxes die with this process.
        Running.forget(self._folder, pid=os.getpid())
        os._exit(_FORCED)

    def _parent(self) -> None:
        if os.read(sys.stdin.fileno(), 1):
            return
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self.asked.set()


async def _serve(settings: Settings, life: Life) -> int:
    """Start everything, wait to be asked to stop, stop everything.

    Raises:
        StartupError: It cannot start here; nothing was changed.
    """
    _refuse_twice(settings.data_dir)
    begun = monotonic()
    from shared.runtime.http import listen

    # The port first: all that follows takes longer, and would have to be stopped again.
    with listen(settings.host, settings.port) as opened:
        leaving = _Leaving(life, settings.data_dir)
        # Engines wait for other processes most of the time; meanwhile modules are read.
        reading = asyncio.create_task(asyncio.to_thread(importlib.import_module, "gateway.app"))
        try:
            from shared.runtime.local import EmbeddedSystem

            system = await EmbeddedSystem.start(settings)
            life.report.part("engines", monotonic() - begun)
        finally:
            await reading
        try:
            await _serve_on(opened, system, settings, life, leaving)
        finally:
            is_clean = await _stopped(system)
    return 0 if is_clean else _UNCLEAN


async def _serve_on(
    opened: socket.socket,
    system: "EmbeddedSystem",
    settings: Settings,
    life: Life,
    leaving: _Leaving,
) -> None:
    from gateway.app import bootstrap_admin, create_app, drain
    from gateway.cli.front import ports_of, settings_of
    from gateway.cli.local_key import ensure
    from shared.runtime.http import Server

    begun = monotonic()
    front = settings_of(settings)
    ports = ports_of(system.ports, scaling=system.scaling, readiness=system.readiness)
    password = await bootstrap_admin(ports, front)
    await ensure(ports, settings.data_dir / KEY_FILE, username=settings.admin_username)
    app = create_app(ports, front)
    server = Server(app, drain=_DRAIN)
    serving = asyncio.create_task(server.run_on(opened), name="server")
    await _first(server.ready.wait(), serving)
    life.report.part("gateway", monotonic() - begun)
    try:
        if not serving.done():
            ready = _ready(opened, settings, password, system.notes)
            _note(ready, settings.data_dir)
            life.report.ready(ready)
            spare_the_collector()
            await _first(leaving.asked.wait(), serving)
            await drain(app)
    finally:
        Running.forget(settings.data_dir, pid=os.getpid())
        server.stop()
        await serving


async def _first(wanted: Coroutine[None, None, object], task: "asyncio.Task[None]") -> None:
    """Return when one of both is done."""
    waiting = asyncio.ensure_future(wanted)
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def _stopped(system: "EmbeddedSystem") -> bool:
    """Stop the engines; say whether they stopped in time."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await system.stop()
    except TimeoutError:
        _LOG.error("the engines did not stop within %g s and are left", _STOP_SECONDS)
        return False
    return True


def _refuse_twice(data_dir: Path) -> None:
    running = Running.read(data_dir)
    if running is not None:
        raise StartupError(
            f"integr8s already runs on {data_dir}: process {running.pid}, at {running.url}.",
            remedy="Use that one, stop it with `integr8s down`, or set another INTEGR8S_DATA_DIR.",
        )


def _ready(
    opened: socket.socket, settings: Settings, password: str | None, notes: tuple[str, ...]
) -> Ready:
    host, port = opened.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    shown = f"[{reachable}]" if ":" in reachable else reachable
    return Ready(
        url=f"http://{shown}:{port}",
        data_dir=str(settings.data_dir),
        version=version("integr8s"),
        seconds=age_of_process(),
        username=settings.admin_username,
        password=password,
        notes=notes,
    )


def _note(ready: Ready, data_dir: Path) -> None:
    pid = os.getpid()
    note = Running(
        pid=pid,
        born=birth_of(pid) or "",
        url=ready.url,
        version=ready.version,
        started_at=rfc3339(datetime.fromtimestamp(time(), UTC)),
    )
    note.write(data_dir)


def age_of_process() -> float:
    """Return the seconds since the kernel started this process, Python's own start included."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks = int(fields[19])
    up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return up - ticks / os.sysconf("SC_CLK_TCK")
