# mypy: ignore-errors
"""Leaves a mark everywhere, after it has looked for one."""

import os
from multiprocessing import shared_memory

for folder in ("/tmp", "/output", "/dev/shm"):
    print("OPEN" if os.path.exists(f"{folder}/mark") else "refused", folder)
    open(f"{folder}/mark", "w").close()
try:
    shared_memory.SharedMemory("integr8s-mark", create=True, size=64)
    print("refused semaphore")
except FileExistsError:
    print("OPEN semaphore")
print("done", flush=True)
os._exit(0)
