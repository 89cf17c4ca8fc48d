"""Fixed ports, and a clear word when one of them belongs to somebody else."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.engines.engine import EngineError

_LISTENING = "0A"
_LONGEST_COMMAND = 100


def chosen(name: str, usual: int) -> int:
    """Return the first port of an engine: the usual one, unless its variable names another.

    Raises:
        EngineError: What the variable holds is no port.
    """
    given = os.environ.get(variable_of(name), str(usual))  # noqa: TID251 - a setting of the engines
    if not given.isdecimal() or not 0 < int(given) <= 65_535:
        raise EngineError(f"{variable_of(name)} is {given!r}: set it to a port, 1 to 65535")
    return int(given)


def variable_of(name: str) -> str:
    """Return the environment variable that moves an engine to other ports."""
    return f"INTEGR8S_ENGINES_{name.upper()}_PORT"


def refuse_taken(name: str, ports: Sequence[int], *, remedy: str = "") -> None:
    """Make sure that nobody listens on these ports, on whatever address.

    Args:
        name: The engine that wants them.
        ports: Those that it wants.
        remedy: What else than stopping the owner would help.

    Raises:
        EngineError: Somebody does; the message names who.
    """
    listening = _listening()
    if taken := [port for port in ports if port in listening]:
        owners = "; ".join(f"{port} is held by {_owner(listening[port])}" for port in taken)
        raise EngineError(f"{name} finds its port taken: {owners}. Stop that{remedy}.")


def _listening() -> dict[int, set[str]]:
    """Return port -> inodes of the sockets that listen on it, IPv4 and IPv6."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):  # a machine without IPv6 has no second table
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTENING:
                    found.setdefault(int(local.rpartition(":")[2], 16), set()).add(rest[5])
    return found


def _owner(inodes: set[str]) -> str:
    """Return who holds one of these sockets, in words."""
    for process, inode in _sockets():
        if inode in inodes:
            with suppress(OSError):
                command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ")
                text = command.decode(errors="replace").strip()
                return f"process {process.name} ({text[:_LONGEST_COMMAND]})"
    return "a process of another user (its name takes root: ss -ltnp)"


def _sockets() -> Iterator[tuple[Path, str]]:
    """Give every process that we may look into with the inode of each of its sockets."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):  # it has ended, or belongs to another user
                for handle in (process / "fd").iterdir():
                    with suppress(OSError):
                        kind, _, inode = str(handle.readlink()).partition(":")
                        if kind == "socket":
                            yield process, inode.strip("[]")
