"""How much a request may bring along."""

SCRIPT_CHARS = 50_000
STDIN_BYTES = 256 * 1024
ALL_BYTES = 768 * 1024
"""Script, standard input and files together."""
