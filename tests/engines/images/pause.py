"""The image of the first process of every pod, which holds the pod's namespaces."""

import shutil
import subprocess
from pathlib import Path

from tests.engines.build_cache import built
from tests.engines.engine import EngineError
from tests.engines.images.image import Config, write_image, write_layer

PAUSE = "localhost/pause:1"
_SOURCE = Path(__file__).with_suffix(".c")
_IMAGE_WRITER = Path(__file__).with_name("image.py")


def lacks() -> list[str]:
    """Return what this machine is missing to build the image."""
    return [] if shutil.which("gcc") else ["a C compiler (apt: gcc libc6-dev)"]


def pause_archive() -> Path:
    """Return the archive of the image, built at the first call.

    Raises:
        EngineError: The compiler refused.
    """
    return built("pause", [_SOURCE, Path(__file__), _IMAGE_WRITER], _make) / "image.tar"


def _make(folder: Path) -> None:
    program = folder / "pause"
    command = ["gcc", "-static", "-Os", "-s", "-Wall", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"pause.c does not compile (apt: libc6-dev?): {done.stderr.strip()}")
    layer = write_layer(folder / "layer.tar", {"pause": program}, keep_times=False)
    config = Config(entrypoint=("/pause",), user="65535")
    write_image(folder / "image.tar", tag=PAUSE, layers=[layer], config=config)
