"""The image of the gateway and of all functions: which of them it becomes, its arguments say.

Three layers, so that a change of our code replaces the smallest: Python, the packages, our wheel.
The same inputs give the same digest. The Dockerfile makes its tree with `make_tree` too.
"""

import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.engines import paths
from tests.engines.build_cache import built, key_of
from tests.engines.engine import EngineError
from tests.engines.images import distroless, packages, rootfs
from tests.engines.images.image import Config, Layer, import_image, write_image, write_layer

FUNCTION = "localhost/integr8s:dev"
"""The name for Deployments and Jobs of the test cluster."""
KNATIVE_FUNCTION = "dev.local/integr8s:dev"
"""The same image for its Knative Services: of any other host part Knative asks a registry for the
digest."""

_IMAGES = Path(__file__).parent
_PYTHON = [*(_IMAGES / f"{name}.py" for name in ("image", "rootfs", "distroless")), Path(__file__)]
_PACKAGES = [packages.LOCK, _IMAGES / "packages.py"]

CODE = [
    paths.ROOT / name
    for name in (
        *("functions", "gateway", "shared", "keda"),
        *("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"),
    )
]
"""What the wheel is built from."""

CONFIG = Config(
    entrypoint=("python3", "-m", "gateway"),
    command=("gateway",),
    environment={
        "HOME": "/tmp",  # noqa: S108 - in the image, where nothing else may be written
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"/{packages.TARGET}",
        "PYTHONSAFEPATH": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    },
    user=f"{distroless.USER}:{distroless.USER}",
)


def lacks() -> list[str]:
    """Return what this machine is missing to build the image."""
    return [*rootfs.lacks(), *packages.lacks()]


def function_archive() -> Path:
    """Return the archive of the image, built at the first call after a change.

    Raises:
        EngineError: A part of it could not be made.
    """
    inputs: list[Path | str] = [rootfs.RELEASE, *rootfs.PACKAGES, *_PYTHON, *_PACKAGES, *CODE]
    return built("function-image", inputs, _make_image) / "image.tar"


def import_function() -> bool:
    """Give the image to the running containerd under both names; say whether it was new to it."""
    archive = function_archive()
    new = [import_image(archive, name) for name in (FUNCTION, KNATIVE_FUNCTION)]
    return any(new)


def make_tree(debian: Path, tree: Path) -> None:
    """Fill a folder with all that is in the image, where another program makes the image of it.

    Args:
        debian: The root of a Debian with Python and certificates; "/" where this is one.
        tree: The folder.

    Raises:
        EngineError: A part of it could not be made.
    """
    distroless.make_tree(debian, tree)
    packages.make_tree(tree, tree)
    _make_code(tree, tree)
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)


def _make_image(folder: Path) -> None:
    sources = key_of(CODE)
    layers = [Layer.of_archive(part() / "layer.tar") for part in (_python, _packages)]
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        _make_code(_python() / "tree", tree)
        layers.append(write_layer(folder / "layer.tar", {"": tree}, keep_times=False))
    if key_of(CODE) != sources:
        # It would be kept under the name of what the sources were.
        raise EngineError("a source changed while the image was built; build it again")
    write_image(folder / "image.tar", tag=FUNCTION, layers=layers, config=CONFIG)
    layers[-1].archive.unlink()


def _python() -> Path:
    return built("function-python", [rootfs.RELEASE, *rootfs.PACKAGES, *_PYTHON], _make_python)


def _make_python(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(rootfs.python_layer().archive) as tar:
            tar.extractall(scratch, filter="tar")
        distroless.make_tree(Path(scratch), folder / "tree")
    write_layer(folder / "layer.tar", {"": folder / "tree", "tmp": None}, keep_times=False)


def _packages() -> Path:
    inputs: list[Path | str] = [rootfs.RELEASE, *rootfs.PACKAGES, *_PYTHON, *_PACKAGES]
    return built("function-packages", inputs, _make_packages)


def _make_packages(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        packages.make_tree(_python() / "tree", Path(scratch))
        write_layer(folder / "layer.tar", {"": Path(scratch)}, keep_times=False)


def _make_code(root: Path, tree: Path) -> None:
    """Unpack our wheel as an installer would, and compile it."""
    site = tree / packages.TARGET
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_wheel(Path(scratch))) as wheel:
        wheel.extractall(site)  # noqa: S202 - our own, made a moment ago
    for package in ("functions", "gateway", "shared"):
        shown_as = f"/{packages.TARGET}/{package}"
        distroless.compile_sources(root, site / package, shown_as=shown_as)
    distroless.normalise(tree)


def _wheel(folder: Path) -> Path:
    """Build the wheel from a copy: in the checkout files may change under a build."""
    copy = folder / "source"
    copy.mkdir()
    for path in CODE:
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, copy / path.name)
    uv = Path(sys.executable).with_name("uv")
    command: list[str | Path] = [uv, "build", "--wheel", "--no-build-isolation"]
    command += ["--python", sys.executable, "--out-dir", folder / "dist", copy]
    packages.run(command, "the wheel could not be built")
    [wheel] = (folder / "dist").glob("*.whl")
    return wheel
