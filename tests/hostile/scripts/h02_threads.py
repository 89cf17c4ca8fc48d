# mypy: ignore-errors
"""Starts threads until one is refused, and says how many there were."""

import threading

stop = threading.Event()
count = 0
try:
    while count < 3000:
        threading.Thread(target=stop.wait, daemon=True).start()
        count += 1
    print("OPEN threads")
except RuntimeError:
    print("refused threads EAGAIN")
print("count", count, flush=True)
stop.set()
