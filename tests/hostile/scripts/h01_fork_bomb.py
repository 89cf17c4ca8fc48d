# mypy: ignore-errors
"""Every process forks for ever, up to a ceiling that no working limit lets it reach."""

import os
import time

made, refused, stop = 0, 0, time.monotonic() + 60
while time.monotonic() < stop and made < 3000:
    try:
        if os.fork() > 0:
            made += 1
    except OSError:
        refused += 1
        if refused == 1:
            os.write(1, b"refused fork EAGAIN\n")
