"""Things that are expensive to make, each made once for the same inputs."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.engines import paths
from tests.engines.engine import say


def built(kind: str, inputs: Sequence[Path | str], make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills from these inputs, made now if it is not there.

    Args:
        kind: What it is, one word; the folder that holds all its versions.
        inputs: All that the result depends on: files and folders count by their content, strings
            (flags, the version of a compiler) by themselves.
        make: Fills the empty folder it is given. That folder is renamed afterwards, so its path
            must not find its way into the result. An exception leaves nothing behind.
    """
    shelf = paths.CACHE / kind
    key = key_of(inputs)
    done, partial = shelf / key, shelf / f"{key}.partial"
    if done.is_dir():
        return done
    shelf.mkdir(parents=True, exist_ok=True)
    with locked(shelf / f"{key}.lock"):
        if not done.is_dir():  # somebody else may have made it while we waited for the lock
            _make(kind, partial, make)
            # The only way to the final name: whoever finds it finds it complete.
            partial.rename(done)
    return done


def key_of(inputs: Sequence[Path | str]) -> str:
    """Return the digest of all inputs; their order matters, their places on the disk do not."""
    digest = hashlib.sha256()
    for one in inputs:
        for name, content in _parts(one):
            # With the sizes in front no two lists of inputs make the same stream of bytes.
            for part in (name.encode(), content):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel lets go of it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays: if it were deleted, two processes could hold locks on two files of one name.
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make(kind: str, partial: Path, make: Callable[[Path], None]) -> None:
    say(f"{kind}: building...")
    begun = time.monotonic()
    shutil.rmtree(partial, ignore_errors=True)  # of a builder that was killed
    partial.mkdir()
    try:
        make(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    say(f"{kind}: {time.monotonic() - begun:.1f} s")


def _parts(one: Path | str) -> Iterator[tuple[str, bytes]]:
    if isinstance(one, str):
        yield "", one.encode()
    elif one.is_dir():
        for path in sorted(one.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(one).as_posix(), path.read_bytes()
    else:
        yield one.name, one.read_bytes()
