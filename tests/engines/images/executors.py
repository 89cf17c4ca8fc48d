"""The images that scripts run in on the test cluster: Debian's interpreters, and this machine's Go.

An installation takes the usual images of the registry, `shared.domain.runtimes.LANGUAGES`; these
stand for them where no image can be fetched, with the same commands on PATH.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.domain.runtimes import LANGUAGES
from tests.engines.build_cache import built
from tests.engines.engine import EngineError
from tests.engines.images import rootfs
from tests.engines.images.image import Config, Layer, import_image, write_image, write_layer
from tests.engines.images.packages import run

USER = "1000:1000"
"""Whom scripts run as."""

_IMAGES = Path(__file__).parent
_BUILDERS = [_IMAGES / f"{name}.py" for name in ("executors", "image", "rootfs")]
_ETC = {
    "passwd": "root:x:0:0:root:/:/bin/false\nsandbox:x:1000:1000:sandbox:/tmp:/bin/sh\n",
    "group": "root:x:0:\nsandbox:x:1000:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
"""As in a sandbox of the embedded profile."""

_GO = Path("usr/local/go")
_GO_LEFT_OUT = ("api", "doc", "misc", "test", "pkg/obj", "**/testdata", "**/*_test.go")


@dataclass(frozen=True)
class Executor:
    """One image: a language in the one version that can be had here."""

    language: str
    version: str
    layer: Callable[[], Layer]
    """Makes the layer with the interpreter."""
    links: Mapping[str, str]
    """Path in the image -> target: commands that are called otherwise than Debian calls them."""
    inputs: tuple[str, ...] = ()
    """What the layer depends on besides the builders."""

    @property
    def tag(self) -> str:
        """Return the name that pods use."""
        return f"localhost/integr8s-executor-{self.language}:{self.version}"


def lacks() -> list[str]:
    """Return what this machine is missing to build the images; without Go there is one less."""
    return rootfs.lacks()


def executors() -> list[Executor]:
    """Return what can be built here."""
    debian = [
        Executor(
            "python", "3.11", rootfs.python_layer, {"usr/local/bin/python": "/usr/bin/python3"}
        ),
        Executor("bash", "5.2", rootfs.python_layer, {}),
        Executor("node", "18", lambda: rootfs.debian_layer(("ca-certificates", "nodejs")), {}),
        Executor("ruby", "3.1", lambda: rootfs.debian_layer(("ca-certificates", "ruby")), {}),
    ]
    release = _go_release()
    version = ".".join(release.removeprefix("go").split(".")[:2])
    if version not in LANGUAGES["go"].versions:
        return debian
    links = {"usr/local/bin/go": f"/{_GO}/bin/go"}
    return [*debian, Executor("go", version, _go_layer, links, (release,))]


def runtime_images() -> dict[str, dict[str, str]]:
    """Return language -> version -> image: the value of INTEGR8S_RUNTIME_IMAGES."""
    return {one.language: {one.version: one.tag} for one in executors()}


def archive_of(executor: Executor) -> Path:
    """Return the archive of one image, built at the first call.

    Raises:
        EngineError: debootstrap failed.
    """
    facts = [executor.language, executor.version, *executor.inputs, *_link_facts(executor)]
    inputs: list[Path | str] = [*facts, rootfs.RELEASE, *rootfs.PACKAGES, *_BUILDERS]
    folder = built("executor-image", inputs, lambda folder: _make(folder, executor))
    return folder / "image.tar"


def archives() -> list[Path]:
    """Return the archives of all images, built at the first call."""
    return [archive_of(executor) for executor in executors()]


def import_executors() -> None:
    """Give all images to the running containerd."""
    for archive in archives():
        import_image(archive)


def _link_facts(executor: Executor) -> list[str]:
    return [f"{name} -> {target}" for name, target in sorted(executor.links.items())]


def _make(folder: Path, executor: Executor) -> None:
    layers = [executor.layer(), _own_layer(folder, executor)]
    if executor.language == "go":
        layers.insert(0, rootfs.python_layer())
    language = LANGUAGES[executor.language]
    config = Config(command=language.command, environment=language.environment_of_run(), user=USER)
    write_image(folder / "image.tar", tag=executor.tag, layers=layers, config=config)
    layers[-1].archive.unlink()


def _own_layer(folder: Path, executor: Executor) -> Layer:
    """Write the users of the image, and its commands under the names that the registry has."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, text in _ETC.items():
            _parent(root / "etc" / name).write_text(text, encoding="utf-8")
        for name, target in executor.links.items():
            _parent(root / name).symlink_to(target)
        for path in root.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        return write_layer(folder / "layer.tar", {"": root}, keep_times=False)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _go_release() -> str:
    """Return the release of this machine's Go as it names itself; empty where there is none."""
    if not shutil.which("go"):
        return ""
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip()


def _go_layer() -> Layer:
    """Return the layer with the toolchain; it needs no C compiler and no network.

    Raises:
        EngineError: The toolchain of this machine is not complete.
    """
    folder = built("executor-go", [_go_release(), _IMAGES / "executors.py"], _make_go)
    return Layer.of_archive(folder / "layer.tar")


def _make_go(folder: Path) -> None:
    source = Path(run(["go", "env", "GOROOT"], "go does not say where it is").strip())
    tree = folder / "tree"
    target = tree / _GO
    shutil.copytree(source, target, symlinks=True)
    for pattern in _GO_LEFT_OUT:
        for path in list(target.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if not (target / "bin/go").is_file() or not (target / "src/fmt").is_dir():
        raise EngineError(f"{source} has no bin/go or no src; install Go as its makers pack it")
    write_layer(folder / "layer.tar", {"": tree}, keep_times=False)
    shutil.rmtree(tree)
