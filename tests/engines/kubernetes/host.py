"""What the cluster changes on this machine before its first process starts, and takes back."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.engines import doctor
from tests.engines.engine import EngineError
from tests.engines.kubernetes import network

CGROUP = "i8s-pods"
"""All pods are below this group, so that those of another cluster on this machine are not ours."""

_CGROUPS = Path("/sys/fs/cgroup")
_SETTINGS = (
    Path("/proc/sys/net/ipv4/ip_forward"),
    # Else what one pod sends another by way of a service is answered past the rules, and is lost.
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
)
_HARDWARE_ADDRESS = "0a:58:0a:f4:00:01"
_FORWARD_CHAIN = "I8S-FORWARD"


def prepare(folder: Path) -> None:
    """Make the network device, the way to services and the control group; keep what is there."""
    _remember_settings(folder)
    for setting in _SETTINGS:
        setting.write_text("1")
    _make_bridge()
    _allow_forwarding()
    for hierarchy in hierarchies():
        _make_group(hierarchy / CGROUP)


def restore(folder: Path) -> None:
    """Set the kernel's settings back to what the first `prepare` found."""
    remembered = folder / "kernel-settings.json"
    if remembered.exists():
        for setting, value in json.loads(remembered.read_text()).items():
            Path(setting).write_text(value)
        remembered.unlink()


def _make_bridge() -> None:
    if not (Path("/sys/class/net") / network.BRIDGE).exists():
        # With a hardware address that was set the bridge keeps it. Otherwise it takes over one of
        # its members' whenever a pod comes or goes, and connections hang until the others notice.
        run("ip", "link", "add", network.BRIDGE, "address", _HARDWARE_ADDRESS, "type", "bridge")
    prefix = network.POD_NETWORK.rpartition("/")[2]
    run("ip", "address", "replace", f"{network.ADDRESS}/{prefix}", "dev", network.BRIDGE)
    run("ip", "link", "set", network.BRIDGE, "up")
    # Without it the machine itself reaches services by way of its default route, if it has one.
    run("ip", "route", "replace", network.SERVICE_NETWORK, "dev", network.BRIDGE)


def _allow_forwarding() -> None:
    """Let pods reach each other where somebody else, Docker above all, forbids all forwarding."""
    with suppress(EngineError):
        run("iptables", "--wait", "5", "-C", "FORWARD", "-j", _FORWARD_CHAIN)
        return
    rules = [
        "*filter",
        f":{_FORWARD_CHAIN} - [0:0]",
        f"-A {_FORWARD_CHAIN} -i {network.BRIDGE} -j ACCEPT",
        f"-A {_FORWARD_CHAIN} -o {network.BRIDGE} -j ACCEPT",
        # In front of what others have; kube-proxy, which starts later, comes in front of this.
        f"-I FORWARD -j {_FORWARD_CHAIN}",
        "COMMIT",
    ]
    run("iptables-restore", "--noflush", "--wait", "5", text="\n".join([*rules, ""]))


def hierarchies() -> list[Path]:
    """Return the root folders of this machine's control groups: one, or one per controller."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    # Some controllers share a hierarchy and have a link for each name.
    return sorted({path.resolve() for path in _CGROUPS.iterdir() if path.is_dir()})


def run(program: str, *arguments: str, text: str | None = None) -> str:
    """Run a program of this machine and return what it printed.

    Raises:
        EngineError: It failed, with what it said.
    """
    command = [doctor.program(program) or program, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def _remember_settings(folder: Path) -> None:
    remembered = folder / "kernel-settings.json"
    if not remembered.exists():
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps({str(path): path.read_text() for path in _SETTINGS}))


def _make_group(group: Path) -> None:
    group.mkdir(exist_ok=True)
    # A new group of the first generation may run nowhere until it is told where.
    for setting in ("cpuset.cpus", "cpuset.mems"):
        own = group / setting
        if own.exists() and not own.read_text().strip() and (group.parent / setting).exists():
            own.write_text((group.parent / setting).read_text())
