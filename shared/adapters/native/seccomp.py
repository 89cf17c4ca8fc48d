"""The system calls that a script is refused, as the small program that the kernel runs.

A deny list: everything that opens another layer (tracing, mounts, namespaces, modules, kernel keys,
foreign address families) answers EPERM, everything else is allowed. An allow list would break the
next version of an interpreter; what is left open here is still inside the other layers.
"""

import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EPERM: Final = 1
ENOSYS: Final = 38

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_LOAD: Final = 0x20
"""BPF_LD | BPF_W | BPF_ABS."""
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

# Offsets in struct seccomp_data on a little-endian machine.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_X32_BIT: Final = 0x40000000
_NAMESPACE_FLAGS: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_REFUSED_IOCTLS: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which push characters into somebody else's terminal."""
FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; vsock for one is in no network namespace."""
LOCAL_FAMILIES: Final = (1, 16)
"""Those of them that lead to no network at all."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What one processor architecture calls things."""

    audit: int
    ioctl: int
    socket: int
    socketpair: int
    clone: int
    clone3: int
    denied: tuple[int, ...]


_SINCE_424: Final = (
    *(425, 426, 427),  # io_uring: its work escapes a filter
    *(428, 429, 430, 431, 432, 433, 442, 467),  # open_tree to fspick, mount_setattr, open_tree_attr
    438,  # pidfd_getfd
    440,  # process_madvise
    443,  # quotactl_fd
)
"""Calls that have one number on every architecture."""

X86_64: Final = Machine(
    audit=0xC000003E,
    ioctl=16,
    socket=41,
    socketpair=53,
    clone=56,
    clone3=435,
    denied=(
        *(101, 310, 311, 312),  # ptrace, process_vm_readv and _writev, kcmp
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(155, 161, 165, 166),  # pivot_root, chroot, mount, umount2
        *(272, 308),  # unshare, setns
        *(321, 298, 323, 300, 301),  # bpf, perf_event_open, userfaultfd, fanotify
        *(303, 304),  # name_to_handle_at, open_by_handle_at
        *(175, 176, 313, 246, 320),  # init_, delete_, finit_module, kexec_load, kexec_file_load
        *(174, 177, 178, 180, 156, 134),  # leftovers of older kernels
        *(167, 168, 169, 163, 179),  # swapon, swapoff, reboot, acct, quotactl
        *(227, 164, 159, 305),  # clock_settime, settimeofday, adjtimex, clock_adjtime
        *(103, 135, 153, 170, 171),  # syslog, personality, vhangup, sethostname, setdomainname
        *(172, 173, 154),  # iopl, ioperm, modify_ldt
        *(256, 279),  # migrate_pages, move_pages
        *_SINCE_424,
    ),
)

AARCH64: Final = Machine(
    audit=0xC00000B7,
    ioctl=29,
    socket=198,
    socketpair=199,
    clone=220,
    clone3=435,
    denied=(
        *(117, 270, 271, 272),
        *(217, 218, 219),
        *(41, 51, 40, 39),
        *(97, 268),
        *(280, 241, 282, 262, 263),
        *(264, 265),
        *(105, 106, 273, 104, 294),
        *(42,),
        *(224, 225, 142, 89, 60),
        *(112, 170, 171, 266),
        *(116, 92, 58, 161, 162),
        *(238, 239),
        *_SINCE_424,
    ),
)


def machine(name: str = "") -> Machine | None:
    """Return what is known about this processor, None where we have no filter for it."""
    return {"x86_64": X86_64, "aarch64": AARCH64}.get(name or platform.machine())


def program(target: Machine, families: Sequence[int] = FAMILIES) -> bytes:
    """Assemble the filter: an array of struct sock_filter, ready for the kernel.

    Sockets of other address families than the given ones are refused.

    Anything of another ABI answers ENOSYS, as on a kernel that lacks it: the 32-bit gates have
    numbers of their own, which this list does not know. clone3 hides its flags behind a pointer
    that a filter cannot follow; with ENOSYS the C libraries fall back to clone.
    """
    refuse, absent = _errno(EPERM), _errno(ENOSYS)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, target.audit, yes=1),
        absent,
        _step(_LOAD, _NUMBER),
        _step(_IF_AT_LEAST, _X32_BIT, no=1),
        absent,
        _step(_IF_EQUAL, target.clone3, no=1),
        absent,
    ]
    for number in sorted(set(target.denied)):
        steps += [_step(_IF_EQUAL, number, no=1), refuse]
    # The low word only: the kernel looks at 32 bits of these, whatever stands in the upper half.
    steps += _when(target.clone, 0, [_step(_IF_ANY_BIT, _NAMESPACE_FLAGS, no=1), refuse])
    steps += _when(
        target.ioctl,
        1,
        [part for number in _REFUSED_IOCTLS for part in (_step(_IF_EQUAL, number, no=1), refuse)],
    )
    known = [
        _step(_IF_EQUAL, family, yes=len(families) - index) for index, family in enumerate(families)
    ]
    for call in (target.socket, target.socketpair):
        steps += _when(call, 0, [*known, refuse])
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _errno(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _when(call: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """Run `checks` on one argument of one call; falling through them allows it.

    A check jumps at most to the instruction after the last one, so that the order of the blocks
    does not matter; the number is loaded anew for whatever follows.
    """
    body = [_step(_LOAD, 16 + 8 * argument), *checks]
    return [
        _step(_LOAD, _NUMBER),
        _step(_IF_EQUAL, call, no=len(body)),
        *body,
    ]
