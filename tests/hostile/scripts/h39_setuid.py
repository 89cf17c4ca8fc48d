# mypy: ignore-errors
"""Looks for a way up: programs that change their user, own ones and others'."""

import os
import subprocess

open("/tmp/sh", "wb").write(open("/bin/sh", "rb").read())
os.chmod("/tmp/sh", 0o6755)
print(
    "refused own"
    if subprocess.run(["/tmp/sh", "-c", "exit $(id -u | grep -c '^0')"]).returncode == 0
    else "OPEN own"
)
for folder in ("/usr/bin", "/usr/sbin", "/usr/libexec"):
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.stat(path).st_mode & 0o6000:
            print("seen", path)
for name, act in (
    ("setuid", lambda: os.setuid(0)),
    ("setgid", lambda: os.setgid(0)),
    ("setgroups", lambda: os.setgroups([0])),
):
    try:
        act()
        print("OPEN", name)
    except OSError:
        print("refused", name)
try:
    subprocess.run(["su", "-c", "id"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    print("OPEN su")
except (OSError, subprocess.CalledProcessError):
    print("refused su")
status = dict(
    line.split(":\t")
    for line in open("/proc/self/status").read().splitlines()
    if line.startswith("Cap")
)
print(
    "OPEN capabilities"
    if any(int(value, 16) for value in status.values())
    else "refused capabilities"
)
print("done")
