# mypy: ignore-errors
"""Knocks at the parts of the kernel that scripts have no business with."""

import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)


def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    code = ctypes.get_errno()
    print("OPEN" if result >= 0 else "refused", name, errno.errorcode.get(code, code), flush=True)


import socket

room = ctypes.create_string_buffer(256)
call("bpf", 321, 0, room, 128)
call("perf_event_open", 298, room, 0, -1, -1, 0)
call("userfaultfd", 323, 1)
call("userfaultfd_nonblock", 323, 0x80000 | 1)
call("io_uring_setup", 425, 4, room)
call("kexec_load", 246, 0, 0, 0, 0)
call("init_module", 175, 0, 0, b"")
call("finit_module", 313, 0, b"", 0)
call("fanotify_init", 300, 0, 0)
call("add_key", 248, b"user", b"mark", b"x", 1, -3)
call("keyctl", 250, 0, -3, 0, 0, 0)
call("request_key", 249, b"user", b"mark", 0, -3)
call("open_by_handle_at", 304, -100, room, 0)
call("name_to_handle_at", 303, -100, b"/tmp", room, room, 0)
call("syslog", 103, 3, room, 10)
call("personality", 135, 0x0040000)
call("reboot", 169, 0xFEE1DEAD, 672274793, 0, 0)
call("swapon", 167, b"/tmp/x", 0)
call("settimeofday", 164, room, 0)
call("acct", 163, 0)
call("quotactl", 179, 0, 0, 0, 0)
call("x32", 0x40000000 | 39)
call("tiocsti", 16, 0, 0x5412, room)
call("tiocsti_high", 16, 0, ctypes.c_ulong((1 << 32) | 0x5412), room)
for family in ("AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC", "AF_KEY"):
    try:
        socket.socket(
            getattr(socket, family, 15),
            socket.SOCK_RAW if family == "AF_PACKET" else socket.SOCK_STREAM,
        )
        print("OPEN", family)
    except OSError as error:
        print("refused", family, errno.errorcode[error.errno])
print("done")
