# mypy: ignore-errors
"""Reads its input to the end."""

import sys

print("read", len(sys.stdin.buffer.read()))
