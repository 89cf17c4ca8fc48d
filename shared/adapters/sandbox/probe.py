"""What a sandbox must show before the first script is taken, seen from inside and outside."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.domain.errors import StartupError


class Layer(StrEnum):
    """A layer that a test may take away, to show that it is missed."""

    FILTER = "filter"
    UID = "uid"
    SEALS = "seals"
    GROUPS = "groups"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the probe."""

    check: str
    good: bool
    seen: str


_KERNEL: Final = "Use a kernel and a bubblewrap that support it, or the Kubernetes profile."
_REMEDIES: Final[Mapping[str, str]] = {
    "user_namespace": "Update bubblewrap to a version with --disable-userns (0.8 or newer).",
    "descriptors": "Report this: a descriptor of the service is open in the sandbox.",
    "init_closed": "Unset /proc/sys/fs/suid_dumpable and check the ptrace policy of this kernel.",
    "member": "Give the service a control group of its own, e.g. Delegate=yes in its unit.",
    "owner": "Choose a base uid that nobody else on this machine has.",
    "killed": "Give the service a control group of its own, e.g. Delegate=yes in its unit.",
}
CHECKS: Final = (
    "capabilities",
    "no_new_privileges",
    "seccomp",
    "uid",
    "uid_map",
    "network",
    "routes",
    "shadow",
    "descriptors",
    "user_namespace",
    "keys",
    "root_writable",
    "dev_writable",
    "proc_writable",
    "init_closed",
    "process_1",
    "scratch",
    "core",
    "done",
)
"""Every check that process 1's probe answers; a missing answer is a failure."""
_WAIVED: Final[Mapping[Layer, frozenset[str]]] = {
    Layer.FILTER: frozenset({"seccomp", "keys"}),
    Layer.UID: frozenset({"owner"}),
    Layer.SEALS: frozenset({"root_writable", "dev_writable", "proc_writable"}),
    Layer.GROUPS: frozenset({"member"}),
}


def findings_of(output: bytes) -> list[Finding]:
    """Read the lines `ok CHECK WORDS` and `bad CHECK WORDS`."""
    found = []
    for line in output.decode(errors="replace").splitlines():
        verdict, _, rest = line.partition(" ")
        check, _, seen = rest.partition(" ")
        found.append(Finding(check, verdict == "ok", seen))
    return found


def owner_finding(statuses: Sequence[str], uid: int | None) -> Finding:
    """Check from outside whom the processes run as; `statuses` are their `/proc/PID/status`."""
    owners = {
        line.split()[1]
        for status in statuses
        for line in status.splitlines()
        if line.startswith(("Uid:", "Gid:"))
    }
    good = bool(statuses) and (uid is None or owners == {str(uid)})
    return Finding("owner", good, f"seen {', '.join(sorted(owners)) or 'nobody'}")


def judge(findings: Sequence[Finding], *, without: Collection[Layer] = ()) -> None:
    """Refuse to go on unless every required check was answered well.

    Raises:
        StartupError: Names the first check that failed, what was seen, and the remedy.
    """
    waived = {check for layer in without for check in _WAIVED[layer]}
    answered = {finding.check for finding in findings}
    missing = [Finding(check, good=False, seen="no answer") for check in CHECKS]
    for finding in (*findings, *(one for one in missing if one.check not in answered)):
        if not finding.good and finding.check not in waived:
            raise StartupError(
                f"The sandbox is not safe here: check `{finding.check}` failed ({finding.seen}).",
                remedy=_REMEDIES.get(finding.check, _KERNEL),
            )


def refused(words: str) -> StartupError:
    """Return the error for a sandbox that could not even be set up, by bubblewrap's own words."""
    if "No permissions to creat" in words or "user namespace" in words.lower():
        remedy = (
            "Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
            "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0)."
        )
    elif "proc" in words:
        remedy = (
            "Inside a container, start it with an unmasked /proc (--security-opt systempaths="
            "unconfined) or as root of its own user namespace."
        )
    elif "Unknown option" in words:
        remedy = "Update bubblewrap to 0.8 or newer."
    else:
        remedy = _KERNEL
    return StartupError(f"A sandbox cannot be started here: {words.strip()[:300]}.", remedy=remedy)
