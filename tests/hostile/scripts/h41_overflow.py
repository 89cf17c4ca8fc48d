# mypy: ignore-errors
"""Overflows the stack of C."""

import ctypes

ctypes.string_at(0)
