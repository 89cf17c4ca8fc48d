"""The note that a running system leaves in its data directory, for commands to find and stop it.

It is only a note: the lock of the directory decides who may run. So a note that a crash left behind
does no harm; it is recognised by the process it names, which is gone or another one by now.
"""

import contextlib
import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

FILE = "running.json"
_STATE, _STARTED = 2, 21
"""Fields of /proc/PID/stat, counted from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One process that serves a data directory."""

    pid: int
    born: str
    """Boot and tick at which the process began: what a recycled number does not share."""
    url: str
    version: str
    started_at: str

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the system that runs on a data directory, or None."""
        try:
            note = cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return note if note.is_alive else None

    @property
    def is_alive(self) -> bool:
        """Say whether this very process still lives."""
        return birth_of(self.pid) == self.born

    def write(self, folder: Path) -> None:
        """Leave the note; a reader sees all of it or none."""
        fresh = folder / f"{FILE}.new"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        fresh.replace(folder / FILE)

    @classmethod
    def forget(cls, folder: Path, *, pid: int) -> None:
        """Take the note of this process away, if there is one."""
        note = cls.read(folder)
        if note is not None and note.pid == pid:
            (folder / FILE).unlink(missing_ok=True)

    def stop(self, *, force: bool, patience: timedelta) -> bool:
        """Ask the process to end, or make it end; say whether it ended in time."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.is_alive:  # the number went to another process before it was opened
                return True
            number = signal.SIGKILL if force else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(patience.total_seconds() * 1000))
        finally:
            os.close(handle)


def birth_of(pid: int) -> str | None:
    """Return when a process was born, as text that only it has; None if it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name in brackets, and may itself hold blanks and brackets.
    fields = ["", "", *stat.rpartition(")")[2].split()]
    return None if fields[_STATE] in ("Z", "X") else f"{boot}:{fields[_STARTED]}"
