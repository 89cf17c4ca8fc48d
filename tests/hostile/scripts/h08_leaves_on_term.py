# mypy: ignore-errors
"""Leaves with 0 when its time is over, as if all were well."""

import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
