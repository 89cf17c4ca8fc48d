# mypy: ignore-errors
"""Leaves a daemon behind that holds standard output and goes on writing."""

import os
import sys
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stop = time.monotonic() + 60
        while time.monotonic() < stop:
            os.write(1, b"still here\n")
            time.sleep(0.01)
    os._exit(0)
os.wait()
sys.exit(5)
