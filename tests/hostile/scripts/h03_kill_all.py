# mypy: ignore-errors
"""Sends signals to everything it can name, process 1 included."""

import os
import signal

children = [os.fork() for _ in range(3)]
if 0 in children:
    signal.pause()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
    if pid != os.getpid():
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except OSError:
                pass
os.kill(1, signal.SIGKILL)
os.kill(1, signal.SIGSTOP)
print("done", flush=True)
os.kill(-1, signal.SIGKILL)
