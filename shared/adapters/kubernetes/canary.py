"""A pod like those of executions that tries to reach what no script may reach."""

import contextlib
import ipaddress
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from shared.adapters.kubernetes.job import INIT
from shared.adapters.kubernetes.options import KubernetesOptions
from shared.domain.errors import StartupError
from shared.ports.cluster import Limits, PodSpec, Runtime

SECONDS: Final = timedelta(seconds=10)
_OUTSIDE: Final = ("1.1.1.1", 443)
_METADATA: Final = ("169.254.169.254", 80)
_DNS_PORT: Final = 53
_SPARE_PROCESSES: Final = 32
_CHECKS: Final[Mapping[str, Sequence[str]]] = {
    "filter": ("seccomp", "namespaces"),
    "uid": ("capabilities", "no_new_privileges", "init_closed"),
    "files": ("root_writable", "token", "scratch"),
}
"""Which checks speak for a layer that every executor needs."""
_FINDING: Final = re.compile(r"(ok|bad|reached|shut) (\S+) ?(.*)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a canary."""

    verdict: str
    what: str
    seen: str


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a canary said."""

    findings: tuple[Finding, ...]

    @property
    def is_whole(self) -> bool:
        """Say whether it came to its end."""
        return any(one.what == "done" for one in self.findings)

    @property
    def reached(self) -> tuple[str, ...]:
        """What it reached on the network."""
        return tuple(sorted(one.what for one in self.findings if one.verdict == "reached"))

    @property
    def broken(self) -> Mapping[str, str]:
        """The checks that did not hold, with what was seen."""
        return {one.what: one.seen for one in self.findings if one.verdict == "bad"}


def spec(name: str, image: str, targets: Mapping[str, str]) -> PodSpec:
    """Return the canary; it runs process 1's own checks as its script."""
    limits = Limits(memory_bytes=64 * 1024 * 1024, memory_request_bytes=16 * 1024 * 1024)
    words = [word for target in targets.items() for word in target]
    most = limits.processes + _SPARE_PROCESSES
    return PodSpec(
        name=name,
        execution_id=name,
        saga_id=name,
        user_id="integr8s",
        runtime=Runtime(
            language="canary",
            version="1",
            image=image,
            # The name of its source, which it has none of, comes after its words.
            command=(INIT, "probe", str(most), *words),
            filename="canary",
        ),
        script=b"",
        timeout=SECONDS,
        limits=limits,
    )


def layers(options: KubernetesOptions, found: Found | None) -> dict[str, str]:
    """Return how each layer is kept; `none` where a canary has seen that it is not."""
    broken = found.broken if found is not None else {}
    own_uid = options.first_uid is not None
    told = {
        "memory": "control group of the container",
        "cpu": "control group of the container",
        "processes": "rlimit of the pod's own uid" if own_uid else "process 1 ends the run",
        "user": "the node's",
        "uid": "per pod" if own_uid else "1000",
        "filter": "seccomp, the runtime's and ours",
        "network": _network(options, found),
        "processes seen": "namespace",
        "files": "read-only image, memory-backed scratch",
        "clock": "process 1",
    }
    if options.host_users is False and "user_namespace" not in broken:
        told |= {"user": "namespace", "processes": "rlimit in the pod's own user namespace"}
    for layer, checks in _CHECKS.items():
        if any(check in broken for check in checks):
            told[layer] = "none"
    return told


def refuse_unsafe(found: Found) -> None:
    """Refuse a cluster whose pods lack what every executor needs.

    The network is another matter: whether it may be open is the operator's to say.

    Raises:
        StartupError: A check did not hold.
    """
    needed = [check for checks in _CHECKS.values() for check in checks]
    broken = {check: seen for check, seen in found.broken.items() if check in needed}
    if broken:
        told = ", ".join(f"{check} ({seen})" for check, seen in sorted(broken.items()))
        raise StartupError(
            f"A pod like those of scripts is not kept in: {told}.",
            remedy="Use nodes whose runtime applies seccomp and the pod's security context.",
        )


def _network(options: KubernetesOptions, found: Found | None) -> str:
    if found is not None and found.reached:
        return "none"
    if not options.internet_sockets:
        return "seccomp, no internet sockets"
    return "policy of the namespace" + (", unproven" if found is None else "")


def found_in(output: bytes) -> Found:
    """Read what a canary printed."""
    lines = output.decode(errors="replace").splitlines()
    matches = (_FINDING.fullmatch(line) for line in lines)
    return Found(tuple(Finding(*match.groups()) for match in matches if match is not None))


def targets(server: str, peer: tuple[str, int] | None) -> dict[str, str]:
    """Return what to try, by name, each as `entry.c` takes it.

    Args:
        server: Address of the API server.
        peer: Where this process itself listens: to a canary it is any other pod.
    """
    found: dict[str, str] = {}
    address = urlsplit(server)
    host, port = address.hostname or "", address.port or 443
    with contextlib.suppress(OSError, ValueError):
        found["api_server"] = f"t:{_encoded(_numeric(host), port)}"
    for number, server_address in enumerate(_name_servers(), start=1):
        found[f"dns_{number}"] = f"u:{_encoded(server_address, _DNS_PORT)}"
    if peer is not None:
        found["pod"] = f"t:{_encoded(*peer)}"
    found["outside"] = f"t:{_encoded(*_OUTSIDE)}"
    found["metadata"] = f"t:{_encoded(*_METADATA)}"
    return found


@contextmanager
def listening(server: str) -> Iterator[tuple[str, int] | None]:
    """Listen where a pod could reach this process, if it has such an address."""
    address = urlsplit(server)
    own = _own_address(_numeric(address.hostname or ""), address.port or 443)
    if own is None:
        yield None
        return
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    with socket.create_server((own, 0), family=family) as waiting:
        yield own, waiting.getsockname()[1]


def _own_address(host: str, port: int) -> str | None:
    """Return from where this process reaches an address; nothing is sent for that."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((host, port))
        except OSError:
            return None
        own = str(asking.getsockname()[0])
    return None if ipaddress.ip_address(own).is_loopback else own


def _numeric(host: str) -> str:
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def _name_servers(path: Path = Path("/etc/resolv.conf")) -> Sequence[str]:
    """Return the name servers of this process: in a cluster, those of every other pod."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    if not ipaddress.ip_address(words[1]).is_loopback:
                        found.append(words[1])
    return found


def _encoded(host: str, port: int) -> str:
    """Return an address as the kernel takes it, in hexadecimal digits."""
    address = ipaddress.ip_address(host)
    if address.version == 4:  # noqa: PLR2004 - the Internet Protocol's
        return (struct.pack("<H", socket.AF_INET) + struct.pack(">H", port)).hex() + (
            address.packed.hex() + "00" * 8
        )
    head = struct.pack("<H", socket.AF_INET6) + struct.pack(">H", port) + bytes(4)
    return (head + address.packed + bytes(4)).hex()
