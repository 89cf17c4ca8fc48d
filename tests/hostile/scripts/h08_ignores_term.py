# mypy: ignore-errors
"""Burns its processor and does not listen."""

import signal

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCONT):
    signal.signal(number, signal.SIG_IGN)
print("busy", flush=True)
while True:
    pass
