"""The filter, run by a small interpreter of the kernel's language."""

import struct

import pytest

from shared.adapters.native import seccomp
from shared.adapters.native.seccomp import AARCH64, X86_64, Machine

ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026


def answer(program: bytes, number: int, *arguments: int, audit: int) -> int:
    """Run a filter on one system call, as the kernel does, and return its answer."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *(value % (1 << 64) for value in values))
    loaded, at = 0, 0
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (loaded,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            holds = {
                0x15: loaded == value,
                0x35: loaded >= value,
                0x45: bool(loaded & value),
            }[code]
            at += yes if holds else no


@pytest.fixture(params=[X86_64, AARCH64], ids=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each processor that there is a filter for."""
    found: Machine = request.param
    return found


def test_denied_calls_get_eperm(machine: Machine) -> None:
    """All of the list, on each machine."""
    program = seccomp.program(machine)

    assert {answer(program, call, audit=machine.audit) for call in machine.denied} == {EPERM}


def test_all_else_is_allowed(machine: Machine) -> None:
    """A call that is not on the list, known or not, is the kernel's business."""
    program = seccomp.program(machine)
    special = {machine.socket, machine.socketpair, machine.clone, machine.clone3}
    others = set(range(600)) - set(machine.denied) - special

    assert {answer(program, call, audit=machine.audit) for call in others} == {ALLOWED}


@pytest.mark.parametrize("audit", [0x40000003, 0xC0000028, 0])
def test_foreign_gates_get_enosys(machine: Machine, audit: int) -> None:
    """The same number means something else there, so none of them is answered."""
    assert answer(seccomp.program(machine), 1, audit=audit) == ENOSYS


def test_x32_numbers_get_enosys() -> None:
    """They come by the native gate, with a bit of their own."""
    program = seccomp.program(X86_64)

    assert answer(program, 0x40000000 | 101, audit=X86_64.audit) == ENOSYS


def test_clone3_is_absent(machine: Machine) -> None:
    """So that libraries fall back to clone, whose flags can be read."""
    assert answer(seccomp.program(machine), machine.clone3, audit=machine.audit) == ENOSYS


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(17, ALLOWED, id="fork"),
        pytest.param(0x3D0F00, ALLOWED, id="thread"),
        pytest.param(0x4111, ALLOWED, id="vfork"),
        pytest.param(0x10000000 | 17, EPERM, id="user"),
        pytest.param(0x20000 | 17, EPERM, id="mount"),
        pytest.param(0x40000000 | 17, EPERM, id="net"),
        pytest.param((1 << 32) | 0x02000000, EPERM, id="upper-half-is-ignored"),
    ],
)
def test_clone_makes_no_namespaces(machine: Machine, flags: int, expected: int) -> None:
    """Processes and threads may be made, namespaces may not."""
    program = seccomp.program(machine)

    assert answer(program, machine.clone, flags, audit=machine.audit) == expected


@pytest.mark.parametrize(
    ("family", "expected"),
    [(1, ALLOWED), (2, ALLOWED), (10, ALLOWED), (16, ALLOWED)]
    + [(family, EPERM) for family in (0, 15, 17, 29, 31, 38, 40, 44)]
    + [((1 << 32) | 40, EPERM), ((1 << 32) | 1, ALLOWED)],
)
def test_families_of_sockets(machine: Machine, family: int, expected: int) -> None:
    """Those that the network namespace holds, and no other."""
    program = seccomp.program(machine)

    assert answer(program, machine.socket, family, audit=machine.audit) == expected
    assert answer(program, machine.socketpair, family, audit=machine.audit) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (0x5412, EPERM),
        (0x541C, EPERM),
        ((1 << 32) | 0x5412, EPERM),
        (0x5401, ALLOWED),
        (0x5411, ALLOWED),
    ],
)
def test_terminals_are_not_typed_into(machine: Machine, request_: int, expected: int) -> None:
    """The kernel reads 32 bits of the request, so the filter does."""
    program = seccomp.program(machine)

    assert answer(program, machine.ioctl, 0, request_, audit=machine.audit) == expected


def test_unknown_processor_has_no_filter() -> None:
    """Start-up turns this into a refusal."""
    assert seccomp.machine("riscv64") is None
