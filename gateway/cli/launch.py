"""Starting a system in a process of its own: to stay in the background, or to end with this one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gateway.cli.environment import Place, read_key
from gateway.cli.errors import Failure
from gateway.cli.running import Running
from gateway.cli.values import JsonObject

LOG_FILE = "integr8s.log"
_STOP_SECONDS = 20


def detached(folder: Path, tell: Callable[[JsonObject], None]) -> JsonObject:
    """Start a system that outlives this process; return what it says when it is ready.

    Raises:
        Failure: It could not start; it says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = (folder / LOG_FILE).open("ab")
    except OSError as error:
        raise Failure(
            f"The data directory {folder} cannot be used: {error.strerror}.",
            remedy="Choose another INTEGR8S_DATA_DIR, or make it writable for you.",
        ) from error
    with log:
        child, pipe = _spawn([], stdin=subprocess.DEVNULL, log=log, settings={})
    return _wait_until_ready(child, pipe, tell, hint=f"Its log is {folder / LOG_FILE}.")


@contextlib.contextmanager
def private() -> Iterator[Place]:
    """Run a system of one's own on a free port and a fresh data directory, gone afterwards.

    It ends when its standard input does, so it cannot outlive this process, however that ends.

    Raises:
        Failure: It could not start; it says why.
    """
    folder = Path(tempfile.mkdtemp(prefix="integr8s-"))
    settings = {
        "INTEGR8S_DATA_DIR": str(folder),
        "INTEGR8S_HOST": "127.0.0.1",
        "INTEGR8S_PORT": "0",
        "INTEGR8S_RATE_LIMIT_ENABLED": "false",
    }
    with (folder / LOG_FILE).open("wb") as log:
        child, pipe = _spawn(
            ["--with-parent", "--remove-data"],
            stdin=subprocess.PIPE,
            log=log,
            settings=settings,
        )
    try:
        _wait_until_ready(child, pipe, lambda _: None)
        running = Running.read(folder)
        if running is None:
            raise Failure("The private system ended as soon as it had begun.")
        yield Place(running.url, read_key(folder))
    finally:
        _end(child)


def _spawn(
    arguments: list[str], *, stdin: int, log: IO[bytes], settings: dict[str, str]
) -> tuple["subprocess.Popen[bytes]", IO[str]]:
    """Start a server process in a session of its own: the terminal's signals are not for it."""
    reader, writer = os.pipe()
    # -P: a folder named `gateway` where the user happens to stand is not ours.
    command = [sys.executable, "-P", "-m", "gateway", "--ready-fd", str(writer), *arguments]
    try:
        child = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
            env={**os.environ, **settings},  # noqa: TID251 - handed on, not read
        )
    finally:
        os.close(writer)
    return child, os.fdopen(reader, encoding="utf-8")


def _wait_until_ready(
    child: "subprocess.Popen[bytes]",
    pipe: IO[str],
    tell: Callable[[JsonObject], None],
    *,
    hint: str = "",
) -> JsonObject:
    with pipe:
        for text in pipe:
            line: JsonObject = json.loads(text)
            if "ready" in line:
                ready: JsonObject = line["ready"]
                return ready
            if "failed" in line:
                child.wait()
                raise Failure(str(line["failed"]), remedy=str(line["remedy"]))
            tell(line)
    raise Failure(f"The system ended while it started (exit code {child.wait()}).", remedy=hint)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Let a private system end, and see to it that it does."""
    if child.stdin is not None:
        child.stdin.close()
    # An impatient second Ctrl-C must not leave it half stopped.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
