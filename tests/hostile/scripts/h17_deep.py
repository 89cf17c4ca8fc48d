# mypy: ignore-errors
"""Makes deep trees and unpleasant names."""

import os

for place in (b"/tmp", b"/output"):
    os.chdir(place)
    for name in (b"\xff\xfe", b"n" * 255, b"a\nb", b"-rf", b"$(id)"):
        open(name, "w").close()
    for _ in range(1000):
        os.mkdir("d")
        os.chdir("d")
print("done")
