# mypy: ignore-errors
"""Holds memory in a file without a name."""

import errno
import os
import resource
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
block = b"x" * (1 << 20)
files = []
for number in range(200):
    files.append(os.memfd_create(str(number)))
    try:
        for _ in range(10):
            os.write(files[-1], block)
    except OSError as error:
        print("refused memfd", errno.errorcode[error.errno], flush=True)
print("OPEN memfd", resource.getrlimit(resource.RLIMIT_FSIZE))
