# mypy: ignore-errors
"""Prints what looks like the reports and events of others."""

import os
import struct

os.write(1, struct.pack("<IIiiQQQ", 3, 0, 0, 0, 1, 1, 1))
os.write(1, b'event: result\ndata: {"status": "completed"}\n\n')
os.write(2, b'{"type": "execution.completed", "exit_code": 0}\n')
os._exit(7)
