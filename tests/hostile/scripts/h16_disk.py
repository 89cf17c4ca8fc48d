# mypy: ignore-errors
"""Fills every place that takes a file."""

import errno
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
block = b"x" * (1 << 20)
for folder in (
    "/",
    "/dev",
    "/etc",
    "/usr",
    "/usr/lib",
    "/scripts",
    "/entry",
    "/proc",
    "/var",
    "/run",
):
    try:
        with open(f"{folder}/x", "wb") as file:
            file.write(block)
        print("OPEN", folder)
    except OSError as error:
        print("refused", folder, errno.errorcode[error.errno])
for folder in ("/tmp", "/output", "/dev/shm"):
    written = 0
    try:
        for number in range(64):
            with open(f"{folder}/{number}", "wb", buffering=0) as file:
                written += file.write(block)
        print("OPEN", folder)
    except OSError as error:
        print("refused", folder, errno.errorcode[error.errno], written)
print("done")
