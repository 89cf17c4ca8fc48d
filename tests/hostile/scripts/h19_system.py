# mypy: ignore-errors
"""Writes into what belongs to the system."""

import errno
import os
import sys

for path in (
    "/usr/x",
    "/usr/bin/python3",
    "/etc/passwd",
    "/etc/ld.so.preload",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/1/oom_score_adj",
    "/proc/sysrq-trigger",
    "/sys/x",
    os.path.join(os.path.dirname(os.__file__), "x.py"),
    sys.executable,
    "/entry/init",
):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        print("OPEN", path)
    except OSError as error:
        print("refused", path, errno.errorcode[error.errno])
print("done")
