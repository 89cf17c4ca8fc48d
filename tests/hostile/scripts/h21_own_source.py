# mypy: ignore-errors
"""Changes its own source."""

import errno
import os

for name, act in (
    ("write", lambda: open(__file__, "w")),
    ("unlink", lambda: os.unlink(__file__)),
    ("rename", lambda: os.rename(__file__, "/scripts/other.py")),
    ("chmod", lambda: os.chmod(__file__, 0o777)),
    ("create", lambda: open("/scripts/new.py", "w")),
):
    try:
        act()
        print("OPEN", name)
    except OSError as error:
        print("refused", name, errno.errorcode[error.errno])
print("done")
