# mypy: ignore-errors
"""Prints every byte, text that is none, and a character in two halves."""

import os
import time

os.write(1, bytes(range(256)) * 4)
os.write(1, b"\xff\xfe\x00 \xe2\x80")
time.sleep(0.15)
os.write(1, b"\xa8 \x1b[31mred\x1b[0m\rover\n")
