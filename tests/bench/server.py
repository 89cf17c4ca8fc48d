"""A real server process on a data directory, started, killed and looked at from outside."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from gateway.cli.running import FILE as RUNNING

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
ADMIN_PASSWORD = "password of a test run"


class NotStarted(Exception):
    """The server ended instead of becoming ready."""

    def __init__(self, message: str, *, code: int, log: str) -> None:
        """Keep what it said, and its exit code."""
        super().__init__(f"exit code {code}: {message}\n{log}")
        self.message, self.code = message, code


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a whole process tree. The sum of `rss` counts shared pages several times."""

    rss_bytes: int
    pss_bytes: int
    processes: Mapping[str, int]
    """PSS by command."""


def environment(data_dir: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server: ours, without any setting that it does not name.

    It may keep its bytecode, since in an image all is compiled: what is measured is no compiler.
    """
    ours = {k: v for k, v in os.environ.items() if not k.startswith("INTEGR8S_")}  # noqa: TID251 - passed on to a process
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return {
        **ours,
        "INTEGR8S_DATA_DIR": str(data_dir),
        "INTEGR8S_PORT": "0",
        "INTEGR8S_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "INTEGR8S_RATE_LIMIT_ENABLED": "false",
        "INTEGR8S_LOG_LEVEL": "WARNING",
        **settings,
    }


class Server:
    """One `integr8s up` in the form for machines, `python -m gateway`."""

    def __init__(self, process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> None:
        """Take over a process that was just started."""
        self.process = process
        self.data_dir = data_dir
        self.log = log
        self.host, self.port = "", 0
        self.seconds_to_ready = 0.0
        """From before the process was spawned until it said that it takes requests."""

    @classmethod
    def start(cls, data_dir: Path, settings: Mapping[str, str] | None = None) -> Self:
        """Start a server and return it when it is ready.

        Raises:
            NotStarted: It ended, or said nothing for too long.
        """
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        log = data_dir.parent / f"{data_dir.name}.log"
        begun = time.perf_counter()
        ours, theirs = os.pipe()
        try:
            with log.open("ab") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "gateway", "--ready-fd", str(theirs)],
                    cwd=ROOT,
                    env=environment(data_dir, settings or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=(theirs,),
                )
        finally:
            os.close(theirs)
        server = cls(process, data_dir, log)
        try:
            server._await_ready(ours)
        finally:
            os.close(ours)
        server.seconds_to_ready = time.perf_counter() - begun
        return server

    @classmethod
    def start_by_command(cls, data_dir: Path) -> Self:
        """Start a server as a person does, with `integr8s up`, and return it when it is ready.

        Raises:
            NotStarted: It ended, or said nothing for too long.
        """
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        log = data_dir.parent / f"{data_dir.name}.log"
        note = data_dir / RUNNING
        begun = time.perf_counter()
        with log.open("ab") as out:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("integr8s"), "up"],
                env=environment(data_dir, {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        server = cls(process, data_dir, log)
        # The note that other commands go by is left when requests are taken.
        while not note.exists():
            if process.poll() is not None or time.perf_counter() - begun > _START_SECONDS:
                server._give_up(b"")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.002)
        server.seconds_to_ready = time.perf_counter() - begun
        return server

    def _await_ready(self, pipe: int) -> None:
        told = b""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for line in told.splitlines():
                known = _json(line)
                if "ready" in known:
                    place = urlsplit(known["ready"]["url"])
                    self.host, self.port = place.hostname or "", place.port or 0
                    return
            readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe, 65536) if readable else b""
            if not data:
                self._give_up(told)
            told += data

    def _give_up(self, told: bytes) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.kill()
        failed = [one["failed"] for line in told.splitlines() if "failed" in (one := _json(line))]
        log = self.log.read_text(errors="replace")[-2000:]
        raise NotStarted(
            failed[0] if failed else "said nothing", code=self.process.returncode, log=log
        )

    @property
    def key(self) -> str:
        """Return the administrator's API key that the server leaves for its own user."""
        return (self.data_dir / "cli.key").read_text(encoding="ascii").strip()

    def kill(self) -> None:
        """End it as a power switch would, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(_STOP_SECONDS)

    def stop(self) -> float:
        """Ask it to end; return the seconds that it took.

        Raises:
            subprocess.TimeoutExpired: It did not end; it was killed.
        """
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return time.monotonic() - begun

    def end(self) -> None:
        """Make sure that it is gone, for the end of a test."""
        if self.process.poll() is None:
            self.kill()

    def tree(self) -> list[int]:
        """Return the process and all below it."""
        return tree(self.process.pid)

    def memory(self) -> Memory:
        """Return what the whole tree uses now."""
        rss = pss = 0
        names: dict[str, int] = {}
        for pid in self.tree():
            with contextlib.suppress(OSError):
                counted = _rollup(pid)
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                rss += counted["Rss"]
                pss += counted["Pss"]
                names[name] = names.get(name, 0) + counted["Pss"]
        return Memory(rss, pss, names)

    def cpu_seconds(self) -> float:
        """Return the processor time of the tree so far, counted by the scheduler."""
        return sum(_on_cpu(pid) for pid in self.tree())


def tree(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def _rollup(pid: int) -> dict[str, int]:
    counted = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            counted[name] = int(rest.split()[0]) * 1024
    return counted


def _on_cpu(pid: int) -> float:
    """Return seconds on a processor, of all threads; `stat` would have ticks of 10 ms."""
    total = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
