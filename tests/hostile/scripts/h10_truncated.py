# mypy: ignore-errors
"""Prints a mebibyte to one stream and a line to the other."""

import sys

sys.stdout.write("0123456789abcdef" * 65536)
sys.stdout.flush()
sys.stderr.write("line\n")
