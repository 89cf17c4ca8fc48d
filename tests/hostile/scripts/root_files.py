# mypy: ignore-errors
"""Opens what only root may read."""

import errno
import sys

try:
    open(sys.argv[1]).read()
    print("OPEN root_file")
except OSError as error:
    print("refused root_file", errno.errorcode[error.errno])
print("done")
