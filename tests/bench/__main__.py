"""`python -m tests.bench`: measure, print a table, write JSON."""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Any

from rich.console import Console

from shared.domain.errors import StartupError
from tests.bench import machine, phases, report, users
from tests.bench.figures import Figure
from tests.bench.floor import Floor
from tests.bench.phases import FULL, QUICK, Measured, Sizes
from tests.bench.server import NotStarted

_USERS = 16
PHASES = ("warm", "throughput", "cold", "idle", "start", "accept", "streams", "history")


class _Run:
    """One run: what was asked for, and what was found so far."""

    def __init__(self, sizes: Sizes, wanted: set[str], console: Console) -> None:
        self._sizes, self._wanted, self._console = sizes, wanted, console
        self.found: dict[str, Any] = {}
        self.figures: list[Figure] = []

    async def all(self, folder: Path) -> None:
        """Run every phase that was asked for."""
        async with AsyncExitStack() as stack:
            floor = await Floor.open(stack)
            self.found["sandbox_groups"] = floor.groups
            self.found["python"] = floor.interpreter.version
            await self._on_one_server(folder, floor)
            await self._on_servers_of_their_own(folder, floor)

    async def _on_one_server(self, folder: Path, floor: Floor) -> None:
        sizes, data_dir = self._sizes, folder / "main"
        if not self._wanted & {"warm", "throughput", "cold", "idle"}:
            return
        known = await users.add(data_dir, _USERS)
        async with phases.serving(data_dir) as server:
            await self._phase("warm", phases.warm(server, known[0], floor, sizes))
            await self._phase("throughput", phases.throughput(server, known, floor, sizes))
            await self._phase("idle", phases.idle(server, sizes))
            await self._phase("cold", phases.cold(server, known[0], floor, sizes))

    async def _on_servers_of_their_own(self, folder: Path, floor: Floor) -> None:
        sizes = self._sizes
        await self._phase("start", phases.start_up(folder / "start", sizes))
        for is_running in (False, True):
            part = "running" if is_running else "waiting"
            measuring = phases.accepting(folder, floor, sizes, is_running=is_running)
            await self._phase("accept", measuring, part)
        for wanted in sizes.streams:
            await self._phase("streams", phases.streams(folder, wanted, floor), str(wanted))
        await self._phase("history", phases.old_age(folder / "history", floor, sizes))

    async def _phase(
        self, name: str, measuring: Coroutine[None, None, Measured], part: str = ""
    ) -> None:
        if name not in self._wanted:
            measuring.close()  # a coroutine that nobody runs
            return
        begun, load = perf_counter(), machine.load()
        self._console.print(f"measuring {name} {part}", style="dim")
        measured = await measuring
        around = {"seconds": round(perf_counter() - begun, 1), "load": [load, machine.load()]}
        self.found[f"{name} {part}".strip()] = {**measured.data, **around}
        self.figures += measured.figures


def main() -> int:
    """Measure; return 1 where a figure that must be reached was missed."""
    chosen = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Every stream is a descriptor here and one in the server, which inherits the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run = _Run(QUICK if chosen.quick else FULL, set(chosen.only or PHASES), console)
    written: dict[str, Any] = {
        "at": datetime.fromtimestamp(time(), UTC).isoformat(timespec="seconds"),
        "quick": chosen.quick,
        "machine": machine.describe(),
        "open_files": {"before": soft, "during": hard},
        "load_before": machine.load(),
    }
    begun = perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="i8s-bench-", dir=chosen.folder) as folder:
            asyncio.run(run.all(Path(folder)))
    except (StartupError, NotStarted) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    written |= {
        "load_after": machine.load(),
        "seconds": round(perf_counter() - begun, 1),
        "figures": [figure.as_json() for figure in run.figures],
        "measured": run.found,
    }
    chosen.output.write_text(json.dumps(written, indent=2) + "\n")
    report.show(run.figures, written, console)
    console.print(f"{written['seconds']} s; everything that was measured is in {chosen.output}")
    return 1 if any(figure.verdict == "missed" for figure in run.figures) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short version, under a minute")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="where JSON goes")
    parser.add_argument("--only", nargs="+", choices=PHASES, help="some phases alone")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where data directories are made; some 6 GB"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
