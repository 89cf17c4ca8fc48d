"""The command line `integr8s`.

This module is imported on every call, so it imports next to nothing: what a command needs is
imported when that command runs.
"""

import sys


def main() -> None:
    """Run the command of this process's arguments, and leave with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from importlib.metadata import version

        sys.stdout.write(f"integr8s {version('integr8s')}\n")
        return
    from gateway.cli.commands import run_app

    sys.exit(run_app())
