"""Resource groups: on trees that are only folders, and the real ones where there are any."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from shared.adapters.sandbox import groups
from shared.adapters.sandbox.groups import NoGroups, SplitGroups, UnifiedGroups, UnifiedLeaf
from shared.ports.cluster import Limits

LIMITS = Limits(memory_bytes=1 << 20, cpu_millicores=500)
HYBRID = """\
34 33 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
35 33 0:31 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
36 33 0:32 /docker/abc /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids
37 33 0:33 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
38 33 0:34 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
40 33 0:36 / /proc rw - proc proc rw
"""
MEMBERSHIP = """\
5:pids:/docker/abc/inner
4:memory:/service
3:cpu,cpuacct:/
1:name=systemd:/x
0::/user.slice/a.scope
"""


def test_own_groups_are_found_in_every_tree() -> None:
    """Paths count from the root of a tree, of which only a branch may be mounted."""
    unified, split = groups.own_groups(HYBRID, MEMBERSHIP)

    assert unified == Path("/sys/fs/cgroup/unified/user.slice/a.scope")
    assert split["pids"] == Path("/sys/fs/cgroup/pids/inner")
    assert split["memory"] == Path("/sys/fs/cgroup/memory/service")
    assert split["cpu"] == split["cpuacct"] == Path("/sys/fs/cgroup/cpu,cpuacct")


def test_no_trees_at_all() -> None:
    """A machine without groups is no error here."""
    assert groups.own_groups("", "0::/\n") == (None, {})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A unified tree of plain files: a write makes what the kernel would have made."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("")
    parent = tmp_path / "ours"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("")
    return tmp_path


_MKDIR = os.mkdir


def leaf_files(folder: Path) -> None:
    """Make the files that a kernel shows in a leaf."""
    _MKDIR(folder)
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"):
        (folder / name).write_text("max\n")


def test_unified_leaf_is_limited(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory, no swap, all die together, processes, share of the processor."""
    found = UnifiedGroups(tree, "ours")
    monkeypatch.setattr(os, "mkdir", lambda path, _mode: leaf_files(Path(path)))
    leaf = found.leaf("run-1", LIMITS, processes=66)
    folder = tree / "ours" / "run-1"

    assert leaf.joins == (str(folder),)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        # A plain file keeps what a shorter text does not overwrite; a kernel's file does not.
        "memory.max": "1048576",
        "memory.swap.max": "0ax\n",
        "memory.oom.group": "1ax\n",
        "pids.max": "66x\n",
        "cpu.max": "50000 100000",
    }
    assert found.layers["memory"] == "cgroup v2"


def test_unified_controllers_are_handed_down(tree: Path) -> None:
    """From our group to the parent, from the parent to the leaves."""
    UnifiedGroups(tree, "ours")

    assert (tree / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (tree / "ours" / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_unified_tree_without_controllers_is_refused(tree: Path) -> None:
    """A mounted tree proves nothing."""
    (tree / "cgroup.controllers").write_text("hugetlb\n")

    with pytest.raises(OSError, match="memory and pids"):
        UnifiedGroups(tree, "ours")


def test_unified_counters(tree: Path) -> None:
    """Figures by the names that the kernel gives them."""
    folder = tree / "ours" / "run-1"
    folder.mkdir()
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (folder / "memory.peak").write_text("2048\n")
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (folder / "pids.events").write_text("max 7\n")
    leaf = UnifiedLeaf(str(folder))

    assert leaf.counters() == groups.Counters(cpu_seconds=1.5, peak_memory_kb=2)
    assert (leaf.memory_kills(), leaf.refused_forks()) == (2, 7)


def test_unified_peak_is_unknown_on_older_kernels(tree: Path) -> None:
    """Unknown is None, never zero."""
    folder = tree / "ours" / "run-1"
    folder.mkdir()

    assert UnifiedLeaf(str(folder)).counters().peak_memory_kb is None


def test_split_trees_must_all_be_there(tmp_path: Path) -> None:
    """Without a bound on processes a run is not bounded."""
    with pytest.raises(OSError, match="pids"):
        SplitGroups({"memory": tmp_path, "cpuacct": tmp_path}, "ours")


def test_no_groups_count_nothing() -> None:
    """Unknown figures, no files to join, nothing to remove."""
    leaf = NoGroups().leaf("x", LIMITS, processes=1)

    assert leaf.counters() == groups.Counters(None, None)
    assert (leaf.joins, leaf.members(), leaf.alarm(), leaf.remove()) == ((), [], None, True)
    assert (leaf.memory_kills(), leaf.refused_forks()) == (0, 0)


@pytest.fixture
def real() -> groups.Groups:
    """The groups of this machine."""
    found, refusals = groups.choose(f"integr8s-test-{os.getpid()}")
    if isinstance(found, NoGroups):
        pytest.skip(f"no control groups here: {'; '.join(refusals)}")
    return found


def test_real_leaf_comes_and_goes(real: groups.Groups) -> None:
    """Made, counted, removed; the parents too."""
    leaf = real.leaf(f"run-{os.getpid()}-1", Limits(), processes=10)
    used = leaf.counters()
    members = leaf.members()
    removed = leaf.remove()
    real.close()

    assert used.cpu_seconds == 0
    assert members == []
    assert removed


def test_leftover_leaf_is_swept(real: groups.Groups) -> None:
    """A killed predecessor's leaf is gone before the first run."""
    left = real.leaf(f"run-{os.getpid()}-2", Limits(), processes=10)
    real.sweep()
    folders = [
        Path(path).parent if Path(path).name == "tasks" else Path(path) for path in left.joins
    ]
    real.close()

    assert [folder for folder in folders if folder.exists()] == []


def test_everything_of_a_service_that_was_killed_can_be_removed(tmp_path: Path) -> None:
    """Leaves, whoever is still in them, and the parents, which no start may ever come back to."""
    name = groups.name_of(tmp_path)
    found, refusals = groups.choose(name)
    if isinstance(found, NoGroups):
        pytest.skip(f"no control groups here: {'; '.join(refusals)}")
    leaf = found.leaf("run-1", Limits(), processes=10)
    files = [Path(path) for path in leaf.joins]
    files = [file if file.name == "tasks" else file / "cgroup.procs" for file in files]
    with subprocess.Popen(["/bin/sleep", "60"]) as left:
        for file in files:
            file.write_text(str(left.pid))
        # It stays in its groups until its parent has taken note of its end.
        reaping = threading.Thread(target=left.wait)
        reaping.start()
        is_removed = groups.remove_all(name)
        reaping.join()

    assert is_removed
    assert left.returncode == -signal.SIGKILL
    assert [file for file in files if file.parent.parent.exists()] == []
    assert groups.remove_all(name), "nothing is left, and that is what was asked for"
