# mypy: ignore-errors
"""A child uses up the memory; the parent would go on and leave with 0."""

import os
import sys
import time

if os.fork() == 0:
    held = [bytearray(b"x") * (1 << 20) for _ in range(2048)]
    print("OPEN memory", flush=True)
    os._exit(0)
os.wait()
time.sleep(20)
sys.exit(0)
