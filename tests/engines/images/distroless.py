"""The lowest layer of the image of our functions: Python, the libraries it loads, certificates.

No shell, no package manager, no tools. What is taken is decided from Debian's own lists: which
files a package has, and which libraries the dynamic linker would load for each of them.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tests.engines.engine import EngineError

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LINKER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
PYTHON = "usr/bin/python3.11"

USER = 65532
"""Owner of no file: what runs as it can change nothing in the image."""

_TAKEN = {
    "python3.11-minimal": (PYTHON,),
    "python3-minimal": ("usr/bin/python3",),
    "libpython3.11-minimal": ("usr/lib/python3.11/*",),
    "libpython3.11-stdlib": ("usr/lib/python3.11/*",),
    "libc-bin": ("usr/lib/locale/C.utf8/*",),
    "base-files": ("usr/lib/os-release",),
}
"""From each package the files whose path matches."""

_LEFT_OUT = (
    *("*/lib-dynload/_test*", "*/lib-dynload/_xx*", "*/lib-dynload/xx*"),
    # Terminals, sound, old databases and name services: each brings libraries of its own.
    *(
        f"*/lib-dynload/{name}.*"
        for name in ("_curses", "_curses_panel", "readline", "ossaudiodev")
    ),
    *(f"*/lib-dynload/{name}.*" for name in ("_dbm", "_crypt", "nis", "audioop")),
    *("*/lib-dynload/_codecs_??.*", "*/lib-dynload/_codecs_iso2022.*"),
    *("*/python3.11/pydoc_data/*", "*/python3.11/test/*", "*/python3.11/turtle.py"),
    *("*/python3.11/curses/*", "*/python3.11/distutils/*", "*/python3.11/lib2to3/*"),
    "*/sitecustomize.py",  # a hook of a crash reporter that is not there
    "*/__pycache__/*",
)

_FOUND_BY_WHEELS = ("libgcc_s.so.1", "libpthread.so.0", "librt.so.1", "libdl.so.2")
"""Libraries of the system that compiled packages may expect, beyond what Python itself loads."""

_FILES = {
    "etc/passwd": "root:x:0:0:root:/tmp:/sbin/nologin\n"
    f"nonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_LINKS = {
    **{name: f"usr/{name}" for name in ("bin", "lib", "lib64")},
    "etc/os-release": "../usr/lib/os-release",
    "usr/lib64/ld-linux-x86-64.so.2": f"../../{LINKER}",  # the path that is in every program
}
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def make_tree(debian: Path, tree: Path) -> None:
    """Fill a folder with the tree of the layer.

    Args:
        debian: The root of a Debian that has Python and certificates; "/" where this is one.
        tree: The folder.

    Raises:
        EngineError: Debian's root lacks something that is expected in it.
    """
    for name in [*_package_files(debian), _CERTIFICATES]:
        _take(debian, tree, name)
    for name in sorted({*_linked(debian, tree), *_wheel_libraries(debian)}):
        _take(debian, tree, name)
    for name, text in _FILES.items():
        (tree / name).write_text(text, encoding="utf-8")
    for name, target in _LINKS.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).symlink_to(target)
    compile_sources(tree, tree / "usr/lib/python3.11", shown_as="/usr/lib/python3.11")
    normalise(tree)


def _package_files(debian: Path) -> Iterator[str]:
    for package, patterns in _TAKEN.items():
        for name in _listed(debian, package):
            wanted = any(fnmatch(name, pattern) for pattern in patterns)
            if wanted and not any(fnmatch(name, pattern) for pattern in _LEFT_OUT):
                yield name


def _listed(debian: Path, package: str) -> list[str]:
    """Return the files and links of a package, without the slash in front."""
    info = debian / "var/lib/dpkg/info"
    lists = [*info.glob(f"{package}.list"), *info.glob(f"{package}:*.list")]
    if not lists:
        raise EngineError(f"Debian's root has no package {package}; is its release another?")
    names = [name.removeprefix("/") for name in lists[0].read_text("utf-8").splitlines()]
    paths = [(name, debian / name) for name in names]
    return [name for name, path in paths if path.is_symlink() or path.is_file()]


def _take(debian: Path, tree: Path, name: str) -> None:
    """Copy a file, or a link and what it leads to.

    Raises:
        EngineError: A link leads out of the root when the root is not entered.
    """
    source, target = debian / name, tree / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        return
    shutil.copy2(source, target, follow_symlinks=False)
    if source.is_symlink():
        leads_to = PurePosixPath(name).parent / source.readlink()
        if leads_to.is_absolute():
            raise EngineError(f"{name} in Debian's root is a link to {leads_to}")
        _take(debian, tree, leads_to.as_posix())


def _linked(debian: Path, tree: Path) -> Iterator[str]:
    """Yield the libraries that the programs and modules in the tree are linked with."""
    for path in [tree / PYTHON, *sorted(tree.rglob("*.so"))]:
        yield from libraries_of(path, root=debian)


def _wheel_libraries(debian: Path) -> list[str]:
    names = [f"{LIBRARIES}/{name}" for name in _FOUND_BY_WHEELS]
    missing = [name for name in names if not (debian / name).exists()]
    if missing:
        raise EngineError(f"Debian's root lacks {', '.join(missing)}")
    return names


def libraries_of(path: Path, *, root: Path) -> list[str]:
    """Return the libraries of a root that its dynamic linker would load for a file.

    Libraries that lie beside the file, as wheels bring them, are not named.

    Raises:
        EngineError: One of them is not there.
    """
    command: list[str | Path] = [root / LINKER, "--library-path", root / LIBRARIES, "--list", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [LINKER]  # not among what it lists
    for line in done.stdout.splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if arrow and place.startswith("not found"):
            raise EngineError(f"{path.name} needs {name}, which the image does not have")
        library = Path(place.partition(" (")[0])
        if arrow and library.is_relative_to(root / LIBRARIES):
            found.append(library.relative_to(root).as_posix())
    return found


def python_of(root: Path, arguments: Sequence[str | Path]) -> list[str]:
    """Return the command that runs the Python of a root without entering it."""
    linker: list[str | Path] = [root / LINKER, "--library-path", root / LIBRARIES]
    return [str(part) for part in [*linker, root / PYTHON, "-B", *arguments]]


def compile_sources(root: Path, folder: Path, *, shown_as: str) -> None:
    """Write the ``.pyc`` files of a folder with a root's Python, the same ones every time.

    They are never compared with their sources: nothing changes in an image, and a comparison by
    time would tie the layer to the minute in which it was made.

    Raises:
        EngineError: A source does not compile.
    """
    options: list[str | Path] = [
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        folder,
        "-p",
        shown_as,
    ]
    done = subprocess.run(
        python_of(root, ["-m", "compileall", *options, folder]),
        capture_output=True,
        text=True,
        check=False,
        # The order of a set among the constants follows from the seed.
        env={"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
    )
    if done.returncode:
        raise EngineError(f"compileall failed: {(done.stdout + done.stderr)[-2000:]}")


def normalise(tree: Path) -> None:
    """Give every file and folder the rights that do not depend on who unpacked or compiled it."""
    for path in tree.rglob("*"):
        if not path.is_symlink():
            is_program = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_program else 0o644)
