"""Process 1 of a pod, run on this machine: in namespaces of its own, without any cluster."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from shared.adapters.kubernetes import report
from shared.adapters.kubernetes.frames import Frame, Lines, Printed, Reported, Started, Used
from shared.adapters.kubernetes.job import Job, Places, Uid, encoded
from shared.adapters.kubernetes.report import Report
from shared.adapters.native import build, seccomp
from shared.ports.cluster import Limits

SOURCE = Path(report.__file__).with_name("entry.c")
MARK = "0123456789abcdef"
PLACES = Places(
    report="/spot/report",
    order="/spot/order",
    stdin="/entry/stdin",
    filter="/entry/filter",
    groups="/groups",
    folder="/tmp",  # noqa: S108 - private to the namespaces
)


@cache
def binary() -> Path:
    """Return the compiled program."""
    return build.binary(SOURCE, Path(tempfile.mkdtemp(prefix="integr8s-entry-")))


def python(source: str, *args: str) -> tuple[str, ...]:
    """Return the command of a Python script."""
    return ("python3", "-u", "-c", source, *args)


@dataclass
class Told:
    """All that a run said."""

    frames: list[Frame]
    log: bytes
    termination_log: bytes

    @property
    def report(self) -> Report:
        """The report of the termination log."""
        found = report.parsed(self.termination_log.decode(errors="replace"), MARK)
        assert found is not None, (self.termination_log, self.log[-500:])
        return found

    @property
    def chunks(self) -> list[Printed]:
        """All output frames."""
        return [frame for frame in self.frames if isinstance(frame, Printed)]

    def printed(self, stream: str) -> bytes:
        """Return one stream, whose offsets must have no gap."""
        text = b""
        for chunk in self.chunks:
            if chunk.stream == stream:
                assert chunk.offset == len(text)
                text += chunk.data
        return text

    @property
    def kinds(self) -> list[type]:
        """Which frames there were besides output, in order."""
        return [type(frame) for frame in self.frames if not isinstance(frame, Printed)]


@dataclass
class Running:
    """A process 1 that works."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    lines: Lines = field(default_factory=Lines)
    log: bytes = b""
    frames: list[Frame] = field(default_factory=list)

    def read(self) -> bool:
        """Take in what it says next; False at the end."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 65536)
        self.log += data
        self.frames += self.lines.feed(data)
        return bool(data)

    def until_printed(self) -> None:
        """Wait for the first output of the script."""
        while not any(isinstance(frame, Printed) for frame in self.frames):
            assert self.read(), "it ended"

    def order(self, text: str) -> None:
        """Write an order as the kubelet does: another file takes the place of the old one."""
        draft = self.folder / "work" / "draft"
        draft.write_text(text)
        draft.replace(self.folder / "work" / "order")

    def count(self, file: str, text: str) -> None:
        """Let a counter of its control group show something else."""
        (self.folder / "groups" / file).write_text(text)

    def term(self) -> None:
        """Ask it to end, from outside of its namespace, as the kubelet does."""
        os.kill(self.first(), signal.SIGTERM)

    def first(self) -> int:
        """Return its number out here: the child of the one that made the namespaces."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(path.read_text().split()[0])

    def told(self) -> Told:
        """Wait for the end and return everything."""
        while self.read():
            pass
        assert self.process.wait(10) == 0, self.log
        return Told(self.frames, self.log, (self.folder / "work" / "report").read_bytes())


@contextmanager
def started(
    command: Sequence[str],
    *,
    seconds: float = 10.0,
    limits: Limits | None = None,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    is_filtered: bool = False,
    uid: Uid = Uid.OWN,
    is_broken: bool = False,
    order: str = "",
    groups: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a job; afterwards nothing of it is left."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = Job(
            command=command,
            environment={"PATH": "/usr/local/bin:/usr/bin:/bin", **(environment or {})},
            timeout_ms=round(seconds * 1000),
            limits=limits or Limits(),
            has_stdin=stdin is not None,
            is_filtered=is_filtered,
            uid=uid,
        )
        _lay_out(folder, job, stdin, order, groups or {})
        if is_broken:
            (folder / "entry" / "job").write_bytes(b"no job\0")
        process = subprocess.Popen(
            _in_namespaces(folder),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={"INTEGR8S_MARK": MARK, "KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        )
        try:
            yield Running(process, folder)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def run(command: Sequence[str], **more: object) -> Told:
    """Run a job to its end."""
    with started(command, **more) as running:  # type: ignore[arg-type]
        return running.told()


def _lay_out(
    folder: Path, job: Job, stdin: bytes | None, order: str, groups: Mapping[str, str]
) -> None:
    for part in ("entry", "work", "groups"):
        (folder / part).mkdir()
    (folder / "entry" / "job").write_bytes(encoded(job, PLACES))
    (folder / "entry" / "init").write_bytes(binary().read_bytes())
    (folder / "entry" / "init").chmod(0o555)
    if stdin is not None:
        (folder / "entry" / "stdin").write_bytes(stdin)
    if job.is_filtered:
        machine = seccomp.machine()
        assert machine is not None
        (folder / "entry" / "filter").write_bytes(seccomp.program(machine))
    (folder / "work" / "report").touch()
    (folder / "work" / "order").write_text(order)
    for path, content in groups.items():
        (folder / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / path).write_text(content)


def _in_namespaces(folder: Path) -> list[str]:
    links = [Path("/", name) for name in ("bin", "lib", "lib64", "sbin")]
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"),
        *("--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"),
        *(
            part
            for link in links
            if link.is_symlink()
            for part in ("--symlink", str(link.readlink()), str(link))
        ),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108
        *("--ro-bind", str(folder / "entry"), "/entry", "--bind", str(folder / "work"), "/spot"),
        *("--bind", str(folder / "groups"), "/groups"),
        *("--as-pid-1", "--", "/entry/init", "do", "/entry/job"),
    ]


__all__ = ["Printed", "Reported", "Running", "Started", "Told", "Used", "python", "run", "started"]
