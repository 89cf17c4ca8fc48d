# mypy: ignore-errors
"""Leaves a file that claims to be a tebibyte long."""

import errno
import os
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open("/output/big", "wb") as file:
    try:
        os.ftruncate(file.fileno(), 1 << 40)
        print("OPEN sparse")
    except OSError as error:
        print("refused sparse", errno.errorcode[error.errno])
print("done")
