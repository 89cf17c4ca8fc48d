"""The outer stage of our binary, on its own: what it becomes has joined and lost what it must."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.adapters.native import build
from shared.adapters.sandbox import arguments, cluster, groups

pytestmark = pytest.mark.skipif(
    len(build.compilers()) < 2, reason="no C compiler (cc, gcc or clang) is installed"
)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our binary."""
    source = Path(cluster.__file__).with_name("init.c")
    return str(build.binary(source, tmp_path_factory.mktemp("binary")))


def entered(
    binary: str, command: str, *, joins: tuple[str, ...] = (), parent: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a shell command behind the outer stage."""
    words = arguments.enter(
        binary=binary,
        parent=os.getpid() if parent is None else parent,
        descriptors=[0, 1, 2],
        uid=None,
        groups=joins,
    )
    return subprocess.run(
        [*words, "/bin/sh", "-c", command],
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        close_fds=False,
        timeout=10,
    )


@pytest.fixture
def unified() -> Iterator[str]:
    """A group of the unified tree; it needs no controllers to be joined."""
    own, _ = groups.own_groups(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    )
    if own is None or not os.access(own / "cgroup.procs", os.W_OK):
        pytest.skip("no unified tree of control groups that this user may change")
    group = own / f"integr8s-test-{os.getpid()}"
    group.mkdir()
    yield str(group)
    group.rmdir()


def test_process_is_born_in_its_group(binary: str, unified: str) -> None:
    """Bubblewrap is in it from its first instruction, and its status is passed on."""
    done = entered(binary, "grep ^0: /proc/self/cgroup; exit 7", joins=(unified,))

    assert done.stdout.strip().endswith(f"/{Path(unified).name}")
    assert done.returncode == 7


def test_missing_group_is_a_refusal(binary: str) -> None:
    """Nothing runs outside of its group; the words name it."""
    done = entered(binary, "echo ran", joins=("/nowhere/tasks",))

    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "sandbox: joining /nowhere/tasks: No such file or directory\n"


def test_only_named_descriptors_are_left(binary: str) -> None:
    """Whatever the service has open, inheritable or not."""
    descriptor = os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), 200)
    try:
        done = entered(binary, "ls /proc/$$/fd")
    finally:
        os.close(descriptor)

    assert [int(name) for name in done.stdout.split() if int(name) < 10] == [0, 1, 2]
    assert "200" not in done.stdout.split()


def test_environment_is_empty(binary: str) -> None:
    """Nothing of the service reaches even bubblewrap."""
    done = entered(binary, "tr '\\0' '\\n' < /proc/self/environ | grep -v ^PWD= | wc -l")

    assert done.stdout.strip() == "0"


def test_privileges_cannot_come_back(binary: str) -> None:
    """No setuid program helps from here on."""
    assert "NoNewPrivs:\t1" in entered(binary, "grep NoNewPrivs /proc/self/status").stdout


def test_orphan_does_not_start(binary: str) -> None:
    """A service that died while it spawned would leave a sandbox that nobody ends."""
    done = entered(binary, "echo ran", parent=1)

    assert (done.returncode, done.stdout) == (125, "")
