# mypy: ignore-errors
"""Holds memory in files and mappings instead of in its own pages."""

import errno
import mmap

block = b"x" * (1 << 20)
for place in ("/tmp/a", "/output/a", "/dev/shm/a"):
    written = 0
    try:
        with open(place, "wb", buffering=0) as file:
            while written < 64:
                written += file.write(block) >> 20
        print("OPEN", place)
    except OSError as error:
        print("refused", place, errno.errorcode[error.errno], written, flush=True)
shared = mmap.mmap(-1, 1 << 30)
for at in range(0, 1 << 30, 1 << 20):
    shared[at : at + 4] = b"full"
    shared[at : at + (1 << 20)] = block
print("OPEN mapping")
