"""Which interpreters this machine has, and which of them a sandbox can reach."""

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_STANDARD: Final = ("/usr/bin", "/usr/local/bin", "/usr/local/go/bin")
_MANAGERS: Final = (
    ".pyenv/versions/*/bin",
    ".local/share/uv/python/*/bin",
    ".nvm/versions/node/*/bin",
    ".rbenv/versions/*/bin",
    "sdk/go*/bin",
)
"""Where version managers keep interpreters, below a home folder."""
_TOOL_CACHES: Final = ("/opt/hostedtoolcache/*/*/*/bin", "/opt/*/bin")
_SYSTEM: Final = ("/usr/", "/bin/")
"""What every sandbox shows anyway."""
_HIDDEN: Final = ("/tmp", "/proc", "/dev", "/sys", "/etc", "/output", "/scripts", "/entry")  # noqa: S108
"""Places that a sandbox has of its own, so that nothing of the host shows there."""
_LONGEST_ANSWER_SECONDS: Final = 5.0
_ELF: Final = b"\x7fELF"
_WALK: Final = stat.S_IXOTH
_READ: Final = stat.S_IROTH


@dataclass(frozen=True, slots=True)
class Language:
    """How an interpreter is found and asked for its version."""

    names: tuple[str, ...]
    version: re.Pattern[str]
    ask: tuple[str, ...] = ("--version",)
    arguments: tuple[str, ...] = ()
    """What stands between the interpreter and the script."""


LANGUAGES: Final[Mapping[str, Language]] = {
    "python": Language(
        names=("python3", *(f"python3.{minor}" for minor in range(7, 15))),
        version=re.compile(r"Python (3\.(?:[7-9]|1[0-4]))\."),
    ),
    "bash": Language(names=("bash",), version=re.compile(r"version (\d+\.\d+)")),
    "node": Language(names=("node",), version=re.compile(r"v(\d+)\.")),
    "ruby": Language(names=("ruby",), version=re.compile(r"ruby (\d+\.\d+)")),
    "go": Language(
        names=("go",),
        version=re.compile(r"go version go(\d+\.\d+)"),
        ask=("version",),
        arguments=("run",),
    ),
}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One that scripts can be run with."""

    language: str
    version: str
    command: tuple[str, ...]
    """Absolute path and fixed arguments; the path of the script follows."""
    folder: str
    """Where its program lies, for PATH."""
    prefix: str | None = None
    """A folder that the sandbox must show besides the system's own; None within `/usr`."""
    is_hidden: bool = False
    """Only root can walk to the prefix: it has to be shown somewhere else first."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What was found, and what was found but cannot be used, each with the reason."""

    interpreters: Mapping[tuple[str, str], Interpreter] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Return the versions per language."""
        found: dict[str, list[str]] = {}
        for language, version in self.interpreters:
            found.setdefault(language, []).append(version)
        return {language: tuple(versions) for language, versions in found.items()}


def offered(
    *,
    folders: Sequence[str] | None = None,
    drops_uid: bool | None = None,
    can_mount: bool = False,
) -> Offered:
    """Look for interpreters in `folders`, by default the usual places and this user's home.

    All of them are asked for their version at once. `drops_uid` says that scripts run as somebody
    else, by default as root; what only root can reach is then offered if the service `can_mount`.
    """
    drops = os.geteuid() == 0 if drops_uid is None else drops_uid
    candidates = list(_candidates(default_folders() if folders is None else folders))
    answers = _ask([(language, path) for language, path in candidates])
    interpreters: dict[tuple[str, str], Interpreter] = {}
    refusals: list[str] = []
    for (language, path), answer in zip(candidates, answers, strict=True):
        match = LANGUAGES[language].version.search(answer)
        if match is None or (language, match[1]) in interpreters:
            continue
        found = _placed(language, match[1], path, drops_uid=drops, can_mount=can_mount)
        if isinstance(found, str):
            refusals.append(f"{language} {match[1]}: {found}")
        else:
            interpreters[language, match[1]] = found
    return Offered(interpreters, tuple(refusals))


def default_folders() -> list[str]:
    """Return where interpreters usually lie, the system's own first."""
    root, home = Path("/"), Path.home()
    found = list(_STANDARD)
    found += [str(path) for pattern in _TOOL_CACHES for path in sorted(root.glob(pattern[1:]))]
    found += [str(path) for pattern in _MANAGERS for path in sorted(home.glob(pattern))]
    return found


def _candidates(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield language and real path of every program, each once."""
    seen: set[tuple[str, str]] = set()
    for folder in folders:
        try:
            present = set(os.listdir(folder))  # noqa: PTH208 - names are all that is needed
        except OSError:
            continue
        for language, known in LANGUAGES.items():
            for name in known.names:
                path = os.path.realpath(f"{folder}/{name}") if name in present else ""
                if path and (language, path) not in seen and _is_program(path):
                    seen.add((language, path))
                    yield language, path


def _is_program(path: str) -> bool:
    """Say whether it is a program itself: what version managers put on PATH are shell scripts."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - dozens of them, once at start
            return file.read(4) == _ELF and os.access(path, os.X_OK)
    except OSError:
        return False


def _ask(candidates: Sequence[tuple[str, str]]) -> list[str]:
    asked: list[subprocess.Popen[bytes] | None] = []
    for language, path in candidates:
        try:
            asked.append(
                subprocess.Popen(
                    [path, *LANGUAGES[language].ask],
                    env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
        except OSError:
            asked.append(None)
    return ["" if process is None else _answer(process) for process in asked]


def _answer(process: subprocess.Popen[bytes]) -> str:
    try:
        return process.communicate(timeout=_LONGEST_ANSWER_SECONDS)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""


def _placed(
    language: str, version: str, path: str, *, drops_uid: bool, can_mount: bool
) -> Interpreter | str:
    """Return the interpreter as a sandbox sees it, or why it sees none."""
    prefix, folder = str(Path(path).parent.parent), str(Path(path).parent)
    command = (path, *LANGUAGES[language].arguments)
    if drops_uid and not (_is_open(path) and _is_open(prefix)):
        return f"{path} is readable by its owner alone"
    if path.startswith(_SYSTEM):
        return Interpreter(language, version, command, folder)
    if not _can_show(prefix):
        return f"{prefix} is a place that a sandbox has of its own"
    if not drops_uid or _can_walk(prefix):
        return Interpreter(language, version, command, folder, prefix)
    if not can_mount:
        return f"{prefix} cannot be reached by an unprivileged user"
    return Interpreter(language, version, command, folder, prefix, is_hidden=True)


def _can_show(prefix: str) -> bool:
    """Refuse what would hide, or be hidden by, the sandbox's own folders, and whole homes."""
    if prefix in ("/", str(Path.home())):
        return False
    return not any(prefix == place or prefix.startswith(f"{place}/") for place in _HIDDEN)


def _is_open(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return bool(mode & _WALK and mode & _READ)


def _can_walk(path: str) -> bool:
    return all(parent.stat().st_mode & _WALK for parent in Path(path).parents)
