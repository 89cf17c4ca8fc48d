"""Adds to the wheel what a checkout has elsewhere: the compiled programs and the scaling rules.

Process 1 of sandboxes and that of pods are compiled here so that an installed copy needs no
compiler. The files under keda/ go beside the autoscaler that reads them. An editable install gets
neither: a checkout compiles on first use and reads keda/ itself.
"""

import runpy
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILDER = "shared/adapters/native/build.py"
_SOURCES = ("shared/adapters/sandbox/init.c", "shared/adapters/kubernetes/entry.c")
_PROGRAMS = "shared/adapters/native/_bin"
_SCALING_RULES = "shared/runtime/_keda"


class WheelContents(BuildHookInterface[Any]):
    """Adds both and says that the wheel is for this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a scratch folder: a program left beside its source would outlive an edit.

        Raises:
            StartupError: There is no C compiler, and no ziglang package in its place.
        """
        self._scratch = None
        if version == "editable":
            return
        self._scratch = tempfile.mkdtemp(prefix="integr8s-build-")
        programs = _compile(Path(self.root), Path(self._scratch))
        build_data["force_include"] |= {
            **{str(program): f"{_PROGRAMS}/{program.name}" for program in programs},
            str(Path(self.root, "keda")): _SCALING_RULES,
        }
        build_data["pure_python"] = False
        # The programs are linked statically: they ask for a kernel and a processor, for no libc;
        # and no part of the wheel asks for one particular Python.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled; it is in the wheel now."""
        del version, build_data, artifact_path
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _compile(root: Path, folder: Path) -> list[Path]:
    """Call our own builder, by path: what its package imports is not installed here."""
    sys.path.insert(0, str(root))
    try:
        binary = runpy.run_path(str(root / _BUILDER))["binary"]
        return [binary(root / source, folder) for source in _SOURCES]
    finally:
        sys.path.remove(str(root))
