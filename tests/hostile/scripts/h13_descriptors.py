# mypy: ignore-errors
"""Writes a forged report to every descriptor there is."""

import errno
import os
import struct

forged = struct.pack("<IIiiQQQ", 3, 0, 0, 0, 1, 1, 1)
for number in range(3, 1024):
    try:
        os.write(number, forged)
        print("OPEN", number)
    except OSError as error:
        if error.errno != errno.EBADF:
            print("OPEN", number, errno.errorcode[error.errno])
for path in ("/proc/1/fd/3", "/entry/init", "/entry/report"):
    try:
        os.write(os.open(path, os.O_WRONLY | os.O_CREAT), forged)
        print("OPEN", path)
    except OSError as error:
        print("refused", path, errno.errorcode[error.errno])
print("done", flush=True)
os._exit(9)
