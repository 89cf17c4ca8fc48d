# mypy: ignore-errors
"""Prints a byte every few milliseconds, for two seconds and a half."""

import os
import time

stop = time.monotonic() + 2.5
while time.monotonic() < stop:
    os.write(1, b".")
    time.sleep(0.005)
