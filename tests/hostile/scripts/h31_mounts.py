# mypy: ignore-errors
"""Changes what is mounted where."""

import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)


def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    code = ctypes.get_errno()
    print("OPEN" if result >= 0 else "refused", name, errno.errorcode.get(code, code), flush=True)


call("mount", 165, b"none", b"/tmp", b"tmpfs", 0, 0)
call("remount", 165, b"none", b"/", b"", 32 | 4096, 0)
call("umount2", 166, b"/tmp", 2)
call("pivot_root", 155, b"/tmp", b"/tmp")
call("open_tree", 428, -100, b"/", 1)
call("move_mount", 429, -100, b"/tmp", -100, b"/output", 0)
call("fsopen", 430, b"tmpfs", 0)
call("mount_setattr", 442, -100, b"/", 0, 0, 0)
call("chroot", 161, b"/tmp")
print("done")
