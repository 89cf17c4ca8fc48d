"""Removes what the parts of a cluster leave on a machine, also if all of them were killed.

Everything is recognised by something that only clusters of this project have: their control group,
socket, folder, the name of their network. A machine has room for one such cluster, so before
anything is removed it must be certain that none runs, not even one of another checkout.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.engines.engine import EngineError
from tests.engines.images.image import CONTAINERD_SOCKET
from tests.engines.kubernetes import host, network
from tests.engines.kubernetes.configuration import RUN

_SECONDS = 20
_SHIM = "containerd-shim-runc-v2"
_CNI_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")
_CHAINS = ("KUBE-", "I8S-")
_PER_RUN = ("addresses", "kubelet", "pod-logs")
"""Folders of one run; the cluster's objects, its certificates and the images are kept."""


def is_somebody_served() -> bool:
    """Return whether a cluster's containerd answers; asked when that of this checkout is stopped.

    It is another checkout's then, and all that could be found on the machine belongs to it.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        return client.connect_ex(str(CONTAINERD_SOCKET)) == 0


def remove_leftovers(folder: Path) -> None:
    """Remove processes, mounts, interfaces, rules, groups and files; what is gone already is fine.

    Only when no cluster runs.

    Raises:
        EngineError: Something stays whatever is done.
    """
    _end_containers()
    _end_shims()
    _unmount_all(folder)
    _remove_interfaces()
    _remove_rules()
    _remove_groups()
    _remove_files(folder)
    host.restore(folder)


def found(folder: Path) -> list[str]:
    """Return what is left on the machine, one line each; nothing after a complete stop."""
    return [
        *(f"process {pid} of a container" for pid in _contained()),
        *(f"process {pid}, a container's shim" for pid in _shims()),
        *(f"mount {point}" for point in _mounts(folder)),
        *(f"interface {name}" for name in _interfaces()),
        *(f"{command} chain {chain}" for command, _, chain in _chains()),
        *(f"control group {group}" for group in _groups()),
    ]


# --------------------------------------------------------------------------------------- processes


def _end_containers() -> None:
    _end(_contained, "processes of containers")


def _end_shims() -> None:
    _end(_shims, "shims of containers")


def _end(pids: Callable[[], list[int]], what: str) -> None:
    def none_left() -> bool:
        for pid in pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids()

    _until(none_left, what)


def _contained() -> list[int]:
    """Return the processes in the pods' control groups."""
    pids: set[int] = set()
    for group in _groups():
        with suppress(OSError):
            pids.update(int(line) for line in (group / "cgroup.procs").read_text().split())
    return sorted(pids - {0})


def _shims() -> list[int]:
    """Return the processes that stand between our containerd and a container each."""
    return [pid for pid in _pids() if _is_our_shim(pid)]


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _is_our_shim(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        program = (process / "exe").readlink().name.removesuffix(" (deleted)")
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return program == _SHIM and str(CONTAINERD_SOCKET).encode() in arguments


# ------------------------------------------------------------------------------------------ mounts


def _unmount_all(folder: Path) -> None:
    def none_left() -> bool:
        for point in _mounts(folder):
            with suppress(EngineError):
                host.run("umount", str(point))
        return not _mounts(folder)

    with suppress(EngineError):
        _until(none_left, "mounts", seconds=5)
        return
    # Somebody, a shell perhaps, stands in one of them: it goes out of sight now and away with him.
    for point in _mounts(folder):
        host.run("umount", "--lazy", str(point))


def _mounts(folder: Path) -> list[Path]:
    """Return the mounts below our folders, the innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].replace("\\040", " ").removesuffix("//deleted"))
        if point.is_relative_to(folder) or point.is_relative_to(RUN):
            points.append(point)
    return list(reversed(points))


# ----------------------------------------------------------------------------------------- network


def _remove_interfaces() -> None:
    for name in _interfaces():
        with suppress(EngineError):  # it may go at this moment, with the namespace of its other end
            host.run("ip", "link", "delete", name)
    _until(lambda: not _interfaces(), "interfaces")


def _interfaces() -> list[str]:
    """Return the bridge and all that hangs on it, the bridge last."""
    bridge = Path("/sys/class/net") / network.BRIDGE
    if not bridge.exists():
        return []
    return [*sorted(path.name for path in (bridge / "brif").iterdir()), network.BRIDGE]


def _remove_rules() -> None:
    for command in ("iptables", "ip6tables"):
        for table, rules in _tables(command).items():
            ours = [line for line in rules if any(chain in line for chain in _CHAINS)]
            chains = [line.split()[1] for line in ours if line.startswith("-N ")]
            jumps = [line for line in ours if line.startswith("-A ")]
            _restore(command, table, chains, jumps)


def _restore(command: str, table: str, chains: list[str], jumps: list[str]) -> None:
    """Delete rules and chains in one transaction: a rule less in between could let a packet by."""
    if not chains and not jumps:
        return
    built_in = [line for line in jumps if line.split()[1] not in chains]
    lines = [
        f"*{table}",
        *(f":{chain} - [0:0]" for chain in chains),  # empties the chain
        *(f"-D {line.removeprefix('-A ')}" for line in built_in),
        *(f"-X {chain}" for chain in chains),
        "COMMIT",
    ]
    host.run(f"{command}-restore", "--noflush", "--wait", "5", text="\n".join([*lines, ""]))


def _tables(command: str) -> dict[str, list[str]]:
    """Return the rules of each table, as ``iptables -S`` writes them."""
    tables = {}
    for table in ("filter", "nat", "mangle", "raw"):
        with suppress(EngineError):  # a kernel without IPv6 has no such table, and nothing in it
            tables[table] = host.run(command, "--wait", "5", "-t", table, "-S").splitlines()
    return tables


def _chains() -> Iterator[tuple[str, str, str]]:
    for command in ("iptables", "ip6tables"):
        for table, rules in _tables(command).items():
            for line in rules:
                if line.startswith(tuple(f"-N {chain}" for chain in _CHAINS)):
                    yield command, table, line.split()[1]


# ---------------------------------------------------------------------------------- groups, files


def _remove_groups() -> None:
    def none_left() -> bool:
        for group in _groups():
            with suppress(OSError):  # busy for a moment after its last process has ended
                group.rmdir()
        return not _groups()

    _until(none_left, "control groups")


def _groups() -> list[Path]:
    """Return our control groups, the innermost first."""
    roots = [hierarchy / host.CGROUP for hierarchy in host.hierarchies()]
    return [Path(folder) for root in roots for folder, _, _ in os.walk(root, topdown=False)]


def _remove_files(folder: Path) -> None:
    # Each shim has a socket in a folder that all containerds of a machine share.
    for note in RUN.glob("containerd/*/*/*/address"):
        with suppress(OSError):
            Path(note.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    for result in _CNI_RESULTS.glob(f"{network.BRIDGE}-*"):
        sandbox = result.name.split("-")[1]
        for same in _CNI_RESULTS.glob(f"*-{sandbox}-*"):  # its loopback device has one as well
            same.unlink(missing_ok=True)
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(folder):
            link.unlink(missing_ok=True)
    for path in (RUN, *(folder / name for name in _PER_RUN)):
        shutil.rmtree(path, ignore_errors=True)


def _until(done: Callable[[], bool], what: str, *, seconds: float = _SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise EngineError(f"some {what} of the cluster stay: see what uses them, stop again")
        time.sleep(0.05)  # noqa: TID251 - the kernel tells nobody when it is done
