"""The images: what their Dockerfiles say, and what is in the one that our own builder makes."""

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from shared.domain.runtimes import LANGUAGES
from shared.runtime.functions import SLUGS
from tests.engines import paths
from tests.engines.images import executors, function, packages, rootfs
from tests.engines.images.image import CONTAINERD_SOCKET, identity, import_image
from tests.manifests.documents import EVERY, KNATIVE, ROOT, WITH_PODS

DOCKERFILE = ROOT / "Dockerfile"
EXECUTOR = KNATIVE / "images" / "executor.Dockerfile"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    word: str
    rest: str


def instructions(path: Path) -> list[Instruction]:
    """Return what a Dockerfile says, without its comments."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [Instruction(word, " ".join(rest.split())) for word, rest in found]


def last(word: str, path: Path = DOCKERFILE) -> str:
    """Return the last instruction of a kind, which is the one that counts."""
    return [one.rest for one in instructions(path) if one.word == word][-1]


def context() -> list[str]:
    """Return every file that the engine is given: all that .dockerignore lets through."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    return sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in kept
        for top in ROOT.glob(pattern)
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    )


# ------------------------------------------------------------------------------------ Dockerfiles


def test_ignored_is_everything_but_what_is_named() -> None:
    """A file that somebody drops into a checkout, a key perhaps, is not sent to the engine."""
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()

    assert next(rule for rule in rules if not rule.startswith("#")) == "*"


def test_every_source_of_a_copy_is_there() -> None:
    """And is let through to the engine."""
    sources = [
        source
        for one in instructions(DOCKERFILE)
        if one.word == "COPY" and not one.rest.startswith("--from")
        for source in one.rest.split()[:-1]
    ]

    assert len(sources) > 2
    assert not [one for one in sources if one != "." and one not in context()]


def test_context_has_what_the_wheel_is_built_from() -> None:
    """Nothing that the builder copies is kept from the engine."""
    wanted = {path.relative_to(ROOT).as_posix() for path in function.CODE}

    assert {one.partition("/")[0] for one in context()} >= {one.partition("/")[0] for one in wanted}


def test_context_has_what_the_builder_imports() -> None:
    """Of our own modules, that is: others are in the lock."""
    source = ROOT / "tests" / "engines" / "images"
    imported = {
        node.module.replace(".", "/")
        for path in source.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests.")
    }

    assert not [one for one in imported if not any(p.startswith(one) for p in context())]


def test_packages_come_from_locks() -> None:
    """Every installation names a lock and requires hashes."""
    runs = [one.rest for one in instructions(DOCKERFILE) if one.word == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]

    assert len(installs) == 2
    for install in installs:
        assert "--require-hashes" in install
        assert re.search(r"--requirement requirements-\w+\.lock", install)


def test_dockerfile_makes_the_same_image() -> None:
    """Same user, entry, words and variables as the one for our tests."""
    entry = tuple(ast.literal_eval(last("ENTRYPOINT")))
    variables = dict(one.split("=", 1) for one in last("ENV").split())

    assert (entry, tuple(ast.literal_eval(last("CMD")))) == (
        function.CONFIG.entrypoint,
        function.CONFIG.command,
    )
    assert (last("USER"), variables) == (function.CONFIG.user, function.CONFIG.environment)
    assert last("FROM") == "scratch"


def test_executor_is_made_from_an_image_of_the_registry() -> None:
    """By default from that of the default language; nobody in it is root."""
    default = last("ARG", EXECUTOR).removeprefix("BASE=")
    python = LANGUAGES["python"]

    assert default == python.image.format(version=python.default_version)
    assert last("USER", EXECUTOR) == executors.USER


def test_images_of_the_tests_are_those_of_the_registry() -> None:
    """Each language and version is one that users may ask for."""
    offered = executors.runtime_images()

    assert set(offered) >= {"python", "bash", "node", "ruby"}
    for language, versions in offered.items():
        assert set(versions) <= set(LANGUAGES[language].versions)


def test_words_of_the_manifests_are_words_of_the_image() -> None:
    """`gateway`, `setup`, `pump SLUG`, `http SLUG`: nothing else starts."""
    words = {tuple(one.container()["args"]) for one in WITH_PODS}

    assert words <= {
        ("gateway",),
        ("setup",),
        *(("pump", slug) for slug in SLUGS),
        *(("http", slug) for slug in SLUGS),
    }
    assert len(EVERY) > len(WITH_PODS) >= len(SLUGS)


def test_lock_without_what_is_left_out_is_still_a_lock() -> None:
    """Entries are left out whole, with their hashes."""
    wanted = packages.wanted()
    names = set(re.findall(r"^([\w.-]+)==", wanted, re.MULTILINE))

    assert names
    assert not names & set(packages.NOT_INSTALLED)
    assert wanted.count("--hash=sha256:") >= len(names)


# ---------------------------------------------------------------------- the image of the functions


@pytest.fixture(scope="module")
def archive() -> Path:
    """Return the archive; where this machine cannot build it, that is the failure."""
    missing = function.lacks()
    if missing:
        pytest.fail(f"the image cannot be built here: {', '.join(missing)}")
    return function.function_archive()


@pytest.fixture(scope="module")
def tree(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what is in the image, its layers unpacked over each other."""
    folder = tmp_path_factory.mktemp("image")
    with tarfile.open(archive) as image:
        image.extractall(folder / "archive", filter="tar")
    for layer in layers(folder / "archive"):
        with tarfile.open(layer) as content:
            content.extractall(folder / "tree", filter="tar")
    return folder / "tree"


def layers(folder: Path) -> Iterator[Path]:
    """Yield the layers of an unpacked archive, the lowest first."""
    [manifest] = ast.literal_eval((folder / "manifest.json").read_text("utf-8"))
    yield from (folder / name for name in manifest["Layers"])


def contents(folder: Path) -> Mapping[str, str]:
    """Return a digest for each file, a target for each link."""
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_image_is_small(archive: Path) -> None:
    """Uncompressed, as a node keeps it: a start from zero may have to wait for it."""
    assert archive.stat().st_size < 120 * MIB


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_image_has_nothing_to_break_in_with(tree: Path) -> None:
    """Python is the only program; no shell, no package manager, no compiler."""
    programs = sorted(path.name for path in (tree / "usr/bin").iterdir())
    marked = [path for path in tree.rglob("*") if path.lstat().st_mode & 0o6000]

    assert programs == ["python3", "python3.11"]
    assert not marked
    assert not [name for name in contents(tree) if fnmatch(name, "*/tests/*")]


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_links_stay_in_the_image(tree: Path) -> None:
    """One that leads out of it leads to nothing in a container."""
    for path in tree.rglob("*"):
        if path.is_symlink():
            assert not path.readlink().is_absolute(), path
            assert path.exists(), path


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_same_inputs_give_the_same_image(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built anew, all but Debian's own files, it has the same digest."""
    shelf = tmp_path / "rootfs"
    shelf.symlink_to(paths.CACHE / "rootfs")
    monkeypatch.setattr(paths, "CACHE", tmp_path)

    again = function.function_archive()

    assert again != archive
    assert again.parent.name == archive.parent.name, "a source changed while this test ran"
    assert identity(again) == identity(archive)


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_dockerfile_makes_the_same_files(tree: Path, tmp_path: Path) -> None:
    """Its one command, in a folder with nothing but what the engine is given."""
    debian, checkout = tmp_path / "debian", tmp_path / "context"
    with tarfile.open(rootfs.python_layer().archive) as tar:
        tar.extractall(debian, filter="tar")
    for name in context():
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    command = [sys.executable, "-m", "tests.engines.images", "tree"]

    done = subprocess.run(
        [*command, debian, tmp_path / "tree"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "tree") == contents(tree)


IMPORT_ALL = """
import importlib, os, pkgutil, sys
LEFT = ("gateway.cli", "gateway.__main__", "shared.runtime.__main__",
        "shared.adapters.sandbox", "shared.adapters.redis.server")
for top in ("shared", "gateway", "functions"):
    for found in pkgutil.walk_packages(importlib.import_module(top).__path__, top + "."):
        if not found.name.startswith(LEFT):
            importlib.import_module(found.name)
for name in ("gateway.cli.cluster", "gateway.cli.cluster_front", "functions_framework.aio",
             "ssl", "sqlite3", "uvloop", "zoneinfo"):
    importlib.import_module(name)
import ssl
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 50
print(os.getuid(), os.access("/srv", os.W_OK), sys.flags.safe_path)
"""


def in_container(*command: str, image: str = function.FUNCTION) -> subprocess.CompletedProcess[str]:
    """Run a command in a container of an image that containerd has."""
    ctr = ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", "k8s.io", "run", "--rm"]
    name = f"try-{hashlib.sha256(str((image, command)).encode()).hexdigest()[:12]}"
    return subprocess.run(
        [*ctr, "--read-only", image, name, *command],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def containerd() -> Path:
    """Return the socket of the containerd that runs the test cluster."""
    if not CONTAINERD_SOCKET.exists():
        pytest.fail("no containerd of ours runs: ./taskw engines start kubernetes")
    return CONTAINERD_SOCKET


@pytest.fixture(scope="module")
def imported(archive: Path, containerd: Path) -> Path:
    """Return the archive once containerd has it."""
    assert containerd.is_socket()
    function.import_function()
    return archive


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("imported")
def test_everything_that_is_imported_is_there() -> None:
    """Every module of the cluster profile, as nobody, in an image that it cannot write to."""
    done = in_container("python3", "-c", IMPORT_ALL)

    assert done.stderr == ""
    assert done.stdout.split() == ["65532", "False", "True"]


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("imported")
def test_image_says_what_it_wants() -> None:
    """Started without settings, it names the one that is missing."""
    done = in_container("python3", "-m", "gateway", "setup")

    assert done.returncode != 0
    assert "INTEGR8S_ENABLE_EVENT_STREAMING" in done.stderr


# -------------------------------------------------------------------------- the images of scripts


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("containerd")
@pytest.mark.parametrize("executor", executors.executors(), ids=lambda one: one.language)
def test_executor_has_its_language(executor: executors.Executor) -> None:
    """Under the command that the registry has for it, in the version of its tag, for nobody."""
    import_image(executors.archive_of(executor))
    program, *_ = LANGUAGES[executor.language].command
    ask = "version" if executor.language == "go" else "--version"

    told = in_container(program, ask, image=executor.tag)
    user = in_container("id", "-u", image=executor.tag)

    assert re.search(rf"\D{re.escape(executor.version)}\.", told.stdout), told.stderr
    assert user.stdout.strip() == "1000"
