"""How large the image of the gateway and of all functions is."""

import zlib
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.phases import Measured
from tests.engines.images import function

_PART = 1024 * 1024


def measure() -> Measured:
    """Measure the archive as a node keeps it, and as a registry would.

    Raises:
        EngineError: The image could not be built.
    """
    archive = function.function_archive()
    size, packed = archive.stat().st_size, _packed(archive)
    figure = Figure(
        name="function image",
        value=size / 1e6,
        unit="MB",
        must=150,
        aim=80,
        shown=f"unpacked, one for all functions; {packed / 1e6:.0f} MB compressed",
    )
    return Measured({"bytes": size, "compressed_bytes": packed}, [figure])


def _packed(archive: Path) -> int:
    packer, size = zlib.compressobj(6), 0
    with archive.open("rb") as file:
        while part := file.read(_PART):
            size += len(packer.compress(part))
    return size + len(packer.flush())
