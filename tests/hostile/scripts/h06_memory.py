# mypy: ignore-errors
"""Touches memory until it is killed."""

import sys

print("before", flush=True)
held = []
for _ in range(2048):
    held.append(bytearray(b"x") * (1 << 20))
sys.exit("OPEN memory")
