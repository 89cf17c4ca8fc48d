"""Build our images, and give them to the running cluster.

python -m tests.engines.images build function executors
python -m tests.engines.images import function
python -m tests.engines.images tree / FOLDER      what is in the image of the functions, as files
"""

import argparse
import sys
from pathlib import Path

from tests.engines.engine import EngineError, say

_KINDS = ("function", "executors")
_MIB = 1024 * 1024


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    try:
        _do(_parser().parse_args())
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.engines.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("build", "import"):
        verbs.add_parser(verb).add_argument("kinds", nargs="+", choices=_KINDS)
    tree = verbs.add_parser("tree")
    tree.add_argument("debian", type=Path, help="root of a Debian 12 with Python")
    tree.add_argument("folder", type=Path, help="where to make the tree")
    return parser


def _do(chosen: argparse.Namespace) -> None:
    # Not above: a container that only makes the tree need not have what the others import.
    from tests.engines.images import function  # noqa: PLC0415

    if chosen.verb == "tree":
        chosen.folder.mkdir(parents=True)
        function.make_tree(chosen.debian, chosen.folder)
        return
    for kind in chosen.kinds:
        for archive in _archives(kind, is_import=chosen.verb == "import"):
            say(_line(archive))


def _archives(kind: str, *, is_import: bool) -> list[Path]:
    from tests.engines.images import executors, function  # noqa: PLC0415 - see above

    _refuse(function.lacks() if kind == "function" else executors.lacks())
    if kind == "function":
        if is_import:
            function.import_function()
        return [function.function_archive()]
    if is_import:
        executors.import_executors()
    return executors.archives()


def _refuse(missing: list[str]) -> None:
    if missing:
        raise EngineError(f"this machine cannot build images; it lacks {', '.join(missing)}")


def _line(archive: Path) -> str:
    from tests.engines.images.image import identity  # noqa: PLC0415 - see above

    image = identity(archive)
    return f"{image.tag}  {archive.stat().st_size / _MIB:.1f} MiB  {image.digest}  {archive}"


if __name__ == "__main__":
    sys.exit(main())
