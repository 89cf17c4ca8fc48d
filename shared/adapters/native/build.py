"""Compiles a C program of ours into one static binary, once per version of its source."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.domain.errors import StartupError

_SHARED: Final = Path(__file__).with_name("process.h")
"""What the programs do alike; each of them includes it."""
_TINY: Final = Path(__file__).with_name("tiny.c")
"""Stands for libc on x86_64; see there why."""
SHIPPED: Final = Path(__file__).with_name("_bin")
"""Where an installed copy has the programs, compiled when the wheel was built."""
_LONGEST_BUILD_SECONDS: Final = 120


def binary(source: Path, folder: Path) -> Path:
    """Return the path of a compiled program in `folder`, building it where it is missing.

    The name holds a digest of all that goes into it, so an update never meets an old binary, and
    the file appears by a rename: two processes that build at once both find a whole one.

    Raises:
        StartupError: There is no compiler, or it refused the source.
    """
    parts = source.read_bytes() + _SHARED.read_bytes() + _TINY.read_bytes()
    digest = hashlib.sha256(parts).hexdigest()[:16]
    target = folder / f"{source.stem}-{os.uname().machine}-{digest}"
    if target.is_file() and os.access(target, os.X_OK):
        return target
    handle, name = tempfile.mkstemp(dir=folder, prefix=f"{source.stem}-draft-")
    os.close(handle)
    draft = Path(name)
    try:
        failures = _make(source, draft, SHIPPED / target.name)
        if not failures:
            draft.chmod(0o755)  # others than its owner must be able to run it
            draft.replace(target)
            return target
    finally:
        draft.unlink(missing_ok=True)
    reason = "; ".join(failures)
    message = f"Our process 1 ({source.name}) could not be built ({reason[:400]})."
    raise StartupError(
        message, remedy="Install a C compiler with static libc (apt-get install gcc libc6-dev)."
    )


def _make(source: Path, draft: Path, shipped: Path) -> list[str]:
    """Fill `draft`; return why every way failed, empty where one did not."""
    if shipped.is_file():
        shutil.copyfile(shipped, draft)
        return []
    failures = []
    for compiler in compilers():
        reasons = []
        for words in _ways(source):
            reason = _compile([*compiler, *words, "-o", str(draft)])
            if not reason:
                return []
            reasons.append(reason)
        failures.append(f"{compiler[0]}: {reasons[-1]}")
    return failures or ["no C compiler was found"]


def _ways(source: Path) -> list[list[str]]:
    """Return how it may be compiled, the quicker and smaller binary first."""
    usual = ["-Os", "-static", "-s", f"-I{_SHARED.parent}", str(source)]
    if os.uname().machine != "x86_64":
        return [usual]
    free = ("-nostdlib", "-fno-builtin", "-fno-stack-protector", "-U_FORTIFY_SOURCE")
    return [[*usual, str(_TINY), *free], usual]


def compilers() -> Sequence[tuple[str, ...]]:
    """Return the compilers of this machine, best first; ziglang is a Python package."""
    found: list[tuple[str, ...]] = [
        (path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))
    ]
    target = f"{os.uname().machine}-linux-musl"
    found.append((sys.executable, "-m", "ziglang", "cc", "-target", target))
    return found


def _compile(command: Sequence[str]) -> str:
    """Return why it failed, empty where it did not."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=_LONGEST_BUILD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return done.stderr.decode(errors="replace").strip() or f"exit {done.returncode}"
