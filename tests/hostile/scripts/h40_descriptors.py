# mypy: ignore-errors
"""Opens files until it is refused."""

import errno
import os

count = 0
try:
    while count < 100_000:
        os.open("/dev/null", os.O_RDONLY)
        count += 1
    print("OPEN descriptors")
except OSError as error:
    print("refused descriptors", errno.errorcode[error.errno])
print("count", count)
