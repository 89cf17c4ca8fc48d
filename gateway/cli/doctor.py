"""Is this machine fit, do the engines run, does the data hold what is promised: and what helps."""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.client import Client
from gateway.cli.environment import Place, read_key
from gateway.cli.errors import Failure
from gateway.cli.findings import Finding, State, show
from gateway.cli.invariants import judged, leftovers, violations_in
from gateway.cli.running import Running
from shared.domain.errors import StartupError
from shared.runtime.evidence import Fault, gather
from shared.runtime.functions import SLUGS, load
from shared.runtime.http import listen
from shared.runtime.settings import Settings
from shared.runtime.wiring.embedded import Stored

_LEAST_FREE_BYTES = 200 * 1024 * 1024
_GOOD_FREE_BYTES = 2 * 1024 * 1024 * 1024
_DATABASE = "integr8s.db"


def run(*, json: bool) -> int:
    """Check everything and print it; return the exit code."""
    return show(findings(), json=json)


def findings() -> Iterator[Finding]:
    """Yield the findings one by one; the later ones take longer."""
    with suppress(StartupError):  # which the machine's own findings come before
        if (settings := Settings.read()).enable_event_streaming:
            from gateway.cli import doctor_cluster

            yield from doctor_cluster.findings(settings)
            return
    yield _python()
    yield _bubblewrap()
    yield _user_namespaces()
    yield _control_groups()
    try:
        settings = Settings.read()
    except StartupError as error:
        yield Finding("settings", "fail", error.message, error.remedy)
        return
    yield Finding("settings", "ok", "every variable can be used")
    yield _disk(settings.data_dir)
    running = Running.read(settings.data_dir)
    if running is None:
        yield _port(settings)
        yield from asyncio.run(_engines(settings))
        yield from _invariants(settings.data_dir)
    else:
        yield Finding("system", "ok", f"runs as process {running.pid} at {running.url}")
        yield from _live(running, settings.data_dir)
        seen = "not judged while a system runs; stop it and call doctor again"
        yield Finding("invariants", "ok", seen)


# --- the machine


def _python() -> Finding:
    seen = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        return Finding("platform", "fail", seen, "The sandbox needs Linux; use a container or VM.")
    return Finding("platform", "ok", seen)


def _bubblewrap() -> Finding:
    program = shutil.which("bwrap")
    if program is None:
        remedy = "Install it: apt-get install bubblewrap, or dnf install bubblewrap."
        return Finding("bubblewrap", "fail", "bwrap is not on PATH", remedy)
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = told.stdout.split()
    if told.returncode or not words:
        return Finding("bubblewrap", "fail", f"{program} does not start", "Install it again.")
    number = tuple(int(part) for part in words[-1].split(".") if part.isdigit())
    if number < (0, 8):
        seen = f"{words[-1]} is too old"
        return Finding("bubblewrap", "fail", seen, "Update it to 0.8 or newer.")
    return Finding("bubblewrap", "ok", f"{words[-1]} ({program})")


def _user_namespaces() -> Finding:
    if os.geteuid() == 0:
        return Finding("user namespaces", "ok", "not needed: this is root")
    switches = (
        ("kernel.unprivileged_userns_clone", "0"),
        ("user.max_user_namespaces", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    )
    for name, bad in switches:
        if _sysctl(name) == bad:
            remedy = f"Allow them: sysctl -w {name}={1 - int(bad) if bad in '01' else 1}"
            if name == "user.max_user_namespaces":
                remedy = "Allow them: sysctl -w user.max_user_namespaces=15000"
            return Finding("user namespaces", "warn", f"{name} is {bad}", remedy)
    return Finding("user namespaces", "ok", "allowed for this user")


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _control_groups() -> Finding:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    kinds = {line.split()[2] for line in mounts} & {"cgroup", "cgroup2"}
    if not kinds:
        remedy = "Mount cgroup2 on /sys/fs/cgroup; without it INTEGR8S_ALLOW_WEAK_LIMITS=true."
        return Finding("control groups", "warn", "none is mounted", remedy)
    names = {"cgroup": "version 1", "cgroup2": "version 2"}
    return Finding("control groups", "ok", " and ".join(sorted(names[kind] for kind in kinds)))


def _disk(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        remedy = "Choose another INTEGR8S_DATA_DIR, or make it writable for you."
        return Finding("data directory", "fail", f"{existing} cannot be written", remedy)
    free = shutil.disk_usage(existing).free
    seen = f"{folder}, {free / 1024**3:.1f} GiB free"
    remedy = "Make room, or choose an INTEGR8S_DATA_DIR on another disk."
    if free < _LEAST_FREE_BYTES:
        return Finding("data directory", "fail", seen, remedy)
    return Finding("data directory", "ok" if free >= _GOOD_FREE_BYTES else "warn", seen, remedy)


def _port(settings: Settings) -> Finding:
    try:
        listen(settings.host, settings.port).close()
    except StartupError as error:
        return Finding("port", "fail", error.message, error.remedy)
    return Finding("port", "ok", f"{settings.port} on {settings.host} is free")


# --- the engines


async def _engines(settings: Settings) -> Sequence[Finding]:
    """Start everything for a moment, on a directory of its own: the only proof that it starts."""
    from shared.runtime.local import EmbeddedSystem

    with tempfile.TemporaryDirectory(prefix="integr8s-doctor-") as folder:
        try:
            system = await EmbeddedSystem.start(
                settings.model_copy(update={"data_dir": Path(folder)})
            )
        except StartupError as error:
            return [Finding("engines", "fail", error.message, error.remedy)]
        try:
            found = list(_checked(await system.readiness()))
            offer = {one.name: system.ports.offer.versions(one.name) for one in system.ports.offer}
            found.append(_languages(offer))
            found += [Finding("sandbox", "warn", note) for note in system.notes]
        finally:
            await system.stop()
    return found


def _checked(checks: Mapping[str, str]) -> Iterator[Finding]:
    states: Mapping[str, State] = {"ok": "ok", "degraded": "warn", "down": "fail"}
    for name, state in checks.items():
        remedy = "Its log line says why: integr8s up --json-logs"
        yield Finding(name.replace("_", " "), states.get(state, "fail"), state, remedy)


def _languages(offer: Mapping[str, Sequence[str]]) -> Finding:
    seen = ", ".join(f"{name} {' '.join(versions)}" for name, versions in offer.items())
    missing = {"python", "bash"} - set(offer)
    if missing:
        remedy = f"Install {' and '.join(sorted(missing))} on this machine."
        return Finding("languages", "warn", seen or "none", remedy)
    return Finding("languages", "ok", seen)


def _live(running: Running, folder: Path) -> Iterator[Finding]:
    try:
        with Client(Place(running.url, read_key(folder))) as client:
            yield from _checked(client.get("/health/ready")["checks"])
            runtimes = client.get("/k8s-limits")["supported_runtimes"]
            yield _languages({name: one["versions"] for name, one in runtimes.items()})
    except Failure as failure:
        yield Finding("system", "fail", failure.message, failure.remedy)


# --- the data


def _invariants(folder: Path) -> Sequence[Finding]:
    """Judge a copy of what is stored: nothing is written, not even by opening it."""
    files = [path for path in folder.glob(f"{_DATABASE}*") if not path.name.endswith("-shm")]
    if not files:
        return [Finding("invariants", "ok", "nothing is stored yet")]
    changed = datetime.fromtimestamp(max(path.stat().st_mtime for path in files), UTC)
    with tempfile.TemporaryDirectory(prefix="integr8s-doctor-") as copy:
        for path in files:
            shutil.copy2(path, copy)
        return asyncio.run(_judge_copy(Path(copy) / _DATABASE, changed))


async def _judge_copy(database: Path, changed: datetime) -> Sequence[Finding]:
    try:
        stored = Stored.open(database)
    except StartupError as error:
        return [Finding("database", "fail", error.message, error.remedy)]
    try:
        return await _judge(stored, changed=changed)
    finally:
        await stored.close()


async def _judge(stored: Stored, *, changed: datetime) -> Sequence[Finding]:
    now = datetime.now(UTC)  # noqa: TID251 - a command has no clock to be given
    groups = {slug: load(slug).spec.topics for slug in SLUGS if load(slug).spec.topics}
    evidence = await gather(stored.collections, stored.log, groups=groups, pods=(), at=now)
    # Nothing can come in time while nothing runs.
    evidence = replace(evidence, faults=[Fault("nothing ran", changed, now)])
    remedy = "Keep a copy of the data directory and report it: this must not happen."
    found = judged(violations_in(evidence), remedy=remedy)
    return [*found, *leftovers(evidence.documents, go_on="go on at the next start")]
