# mypy: ignore-errors
"""Burns its processor."""

print("busy", flush=True)
while True:
    pass
