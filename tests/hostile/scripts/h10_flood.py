# mypy: ignore-errors
"""Writes without end to both streams, up to a ceiling."""

import os

block = b"x" * 65536
for _ in range(40_000):
    os.write(1, block)
    os.write(2, block)
