"""The same sandbox where the service is nobody special: no uids to choose from, no groups."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hostile import harness

ROOT = Path(__file__).parents[4]
NOBODY = 54_321
PYTHON = "/usr/bin/python3"

RUN = """
import asyncio, datetime, json, os, sys, time
from pathlib import Path
from shared.adapters.sandbox.cluster import MemoryLedger, SandboxCluster
from shared.domain.errors import StartupError
from shared.ports.cluster import Limits, PodSpec, Runtime

class Clock:
    def now(self): return datetime.datetime.now(datetime.timezone.utc)

class Ids:
    def new(self): return "id"

def cluster(**more):
    return SandboxCluster(
        folder=Path("/nowhere"), ledger=MemoryLedger(), clock=Clock(), ids=Ids(),
        interpreter_folders=["/usr/bin"], **more,
    )

async def main():
    said = {}
    try:
        strict = cluster()
        await strict.start()
        await strict.stop()
        said["refused"] = ""
    except StartupError as error:
        said["refused"] = str(error)
    one = cluster(allow_weak_limits=True)
    await one.start()
    said["layers"] = dict((await one.isolation()).layers)
    version = one.offered.versions()["python"][0]
    for name, script in json.loads(sys.argv[1]).items():
        runtime = Runtime("python", version, "", ("python",), "main.py", {})
        limits = Limits(processes=20)
        await one.create(PodSpec(
            name=name, execution_id=name, saga_id="", user_id="", runtime=runtime,
            script=script.encode(), limits=limits, timeout=datetime.timedelta(seconds=5),
        ))
        async for item in one.watch():
            if item.name == name and getattr(item, "end", None):
                said[name] = [item.end.cause, item.end.stdout.kept.decode()]
                break
    await one.stop()
    print(json.dumps(said))

asyncio.run(main())
"""


def can_be_somebody_else() -> bool:
    """Say whether this test can become an ordinary user who can read the code."""
    return (
        os.geteuid() == 0
        and shutil.which("setpriv") is not None
        and Path(PYTHON).exists()
        and all(parent.stat().st_mode & 1 for parent in (ROOT, *ROOT.parents))
    )


@pytest.mark.sandbox
@harness.needs_sandbox
@pytest.mark.skipif(
    not can_be_somebody_else(), reason="needs root, setpriv and a checkout that others can read"
)
def test_ordinary_user_is_held_by_the_same_layers() -> None:
    """Weak limits need a yes; then namespaces, filter and seals hold as they do for root."""
    scripts = ROOT / "tests" / "hostile" / "scripts"
    names = ("h02_threads", "h16_disk", "h19_system", "h31_mounts", "h34_kernel")
    told = {name: (scripts / f"{name}.py").read_text() for name in names}
    home = Path("/var/tmp") / f"integr8s-{os.getpid()}"  # noqa: S108 - the user's own home
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    try:
        done = subprocess.run(
            [
                *("/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                *(PYTHON, "-B", "-c", RUN, json.dumps(told)),
            ],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(home)},
            cwd="/",
            capture_output=True,
            check=False,
            timeout=30,
        )
    finally:
        shutil.rmtree(home)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)

    assert said["layers"]["uid"] == "shared"
    assert said["layers"]["memory"] == "rlimit per process" or not said["refused"]
    assert [name for name in names if said[name][0] != "exit"] == []
    assert [name for name in names if "OPEN" in said[name][1]] == []
    assert "count 19" in said["h02_threads"][1]
    assert all("done" in said[name][1] for name in names[1:])
