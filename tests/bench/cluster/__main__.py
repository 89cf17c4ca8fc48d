"""`python -m tests.bench.cluster`: measure on the real engines, print a table, write JSON."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Any

from rich.console import Console

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.runtime.process import loop_factory
from shared.runtime.settings import Settings
from tests.bench import machine, report
from tests.bench.client import Refused
from tests.bench.cluster import bare, image, installed, on_cluster, on_host, timeline
from tests.bench.cluster.hosted import Broken, control_plane
from tests.bench.cluster.on_cluster import Site
from tests.bench.cluster.sightings import PodWatch
from tests.bench.cluster.sizes import FULL, QUICK, Sizes
from tests.bench.figures import Figure
from tests.bench.phases import Measured
from tests.cluster.installing import NAMESPACE, uninstall, value
from tests.cluster.kubectl import Kubectl
from tests.engines import catalogue, lifecycle
from tests.engines.addons import cluster as addons
from tests.engines.engine import Engine, EngineError
from tests.engines.images import executors, function

_ON_HOST = ("delay", "start", "control")
_ON_CLUSTER = ("warm", "pods", "cold")
PHASES = ("image", *_ON_HOST, *_ON_CLUSTER)
_NEEDED = ("INTEGR8S_KAFKA_SERVERS", "INTEGR8S_MONGO_URL", "INTEGR8S_REDIS_URL")
_KUBERNETES = ("kubernetes", "keda", "knative")
"""Started for the phases that need it: beside the others it would take a quarter of the machine."""
_INTERRUPTED = 130
_BROKEN = (AssertionError, Broken, EngineError, OSError, Refused, RuntimeError)
_EPILOG = f"""\
phases:
  image    size of the image of all functions
  delay    from a request to its event in the topic       \\
  start    from the start of a function to its first event  > processes of this machine,
  control  executions a second with pods that pretend      /  pods that only pretend
  warm     one script after the other, functions awake    \\
  pods     as many at once as there are slots              > an installation, beside a bare client
  cold     one script with everything at zero             /

It installs into the namespace {NAMESPACE} of the engines of the tests, and removes whatever was
there. `./taskw bench:cluster` starts Kafka, documents and Redis; Kubernetes is started for its own
phases, unless it runs already. What was not running before is stopped again.
"""


class _Run:
    """One run: what was asked for, and what was found so far."""

    def __init__(
        self, sizes: Sizes, wanted: set[str], console: Console, settings: Settings
    ) -> None:
        self._sizes, self._wanted, self._console = sizes, wanted, console
        self._settings = settings
        self.engines = _told_by(catalogue.with_needs(["kafka", "mongo", "redis"]))
        self.found: dict[str, Any] = {}
        self.figures: list[Figure] = []

    async def all(self, folder: Path) -> None:
        """Run every phase that was asked for."""
        if "image" in self._wanted:
            self._say("building images")
            await installed.to_its_end(function.function_archive)
            await self._phase("image", asyncio.to_thread(image.measure))
        if self._wanted.intersection(_ON_HOST):
            await self._on_host(folder)
        if self._wanted.intersection(_ON_CLUSTER):
            await self._on_cluster()

    async def _on_host(self, folder: Path) -> None:
        if addons.is_up():
            self._say(f"removing what is installed in {NAMESPACE}")
            command = Kubectl(str(addons.kubeconfig()))
            await installed.to_its_end(lambda: uninstall(command))
        self._say("starting the control plane on this machine")
        servers, sizes = self._settings.kafka_servers, self._sizes
        async with control_plane(self._settings, folder, **on_host.SETTINGS) as plane:
            await self._phase("delay", on_host.delay(plane, servers, sizes))
            await self._phase("start", on_host.start(plane, servers, sizes))
            redis = self._settings.redis_url
            assert redis is not None
            await self._phase("control", on_host.control(plane, redis.get_secret_value(), sizes))

    async def _on_cluster(self) -> None:
        self._say("starting Kubernetes")
        engines = catalogue.with_needs(_KUBERNETES)
        kubernetes = lifecycle.running(engines)
        os.environ |= await installed.to_its_end(kubernetes.__enter__)  # noqa: TID251 - for what we start
        try:
            self.engines |= _told_by(engines)
            await self._on_kubernetes()
        finally:
            await installed.to_its_end(lambda: kubernetes.__exit__(None, None, None))

    async def _on_kubernetes(self) -> None:
        self._say("importing images")
        await installed.to_its_end(function.import_function)
        await installed.to_its_end(executors.import_executors)
        self._say(f"installing into {NAMESPACE}")
        async with self._site() as site:
            if self._wanted & {"warm", "pods"}:
                self._say("waking the functions")
                await installed.warm(site.world)
                await self._phase("warm", on_cluster.warm(site, self._sizes))
                await self._phase("pods", on_cluster.pods(site, self._sizes))
                await installed.zero(site.world)
            await self._phase("cold", on_cluster.cold(site, self._sizes))
            self._say("removing the installation")

    @asynccontextmanager
    async def _site(self) -> AsyncIterator[Site]:
        command = Kubectl(value(os.environ, "KUBECONFIG"))  # noqa: TID251 - what the engines were started with
        async with installed.installed(command) as world, bare.floor(command) as floor:
            api = ApiServer(credentials.find(command.kubeconfig))
            watch = await PodWatch.open(api, NAMESPACE)
            try:
                yield Site(world, floor, watch, self._settings.kafka_servers)
            finally:
                await watch.close()
                await api.close()

    async def _phase(self, name: str, measuring: Coroutine[None, None, Measured]) -> None:
        if name not in self._wanted:
            measuring.close()  # a coroutine that nobody runs
            return
        begun, load = perf_counter(), machine.load()
        self._say(f"measuring {name}")
        measured = await measuring
        around = {"seconds": round(perf_counter() - begun, 1), "load": [load, machine.load()]}
        self.found[name] = {**measured.data, **around}
        self.figures += measured.figures

    def _say(self, what: str) -> None:
        self._console.print(what, style="dim")


def main() -> int:
    """Measure; return 1 where a figure that must be reached was missed, more where it broke off."""
    chosen = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        settings = _settings()
        run = _Run(QUICK if chosen.quick else FULL, set(chosen.phases or PHASES), console, settings)
    except _BROKEN as error:
        return _told(error)
    written: dict[str, Any] = {
        "at": datetime.fromtimestamp(time(), UTC).isoformat(timespec="seconds"),
        "quick": chosen.quick,
        "machine": machine.describe(),
        "engines": run.engines,
        "load_before": machine.load(),
    }
    begun, broken = perf_counter(), 0
    try:
        _measure(run)
    except _BROKEN as error:
        broken = _told(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("bench: interrupted; what it had started is gone\n")
        broken = _INTERRUPTED
    if run.found:  # minutes of measuring are not lost with what came after
        written |= {
            "load_after": machine.load(),
            "seconds": round(perf_counter() - begun, 1),
            "figures": [figure.as_json() for figure in run.figures],
            "measured": run.found,
        }
        chosen.output.write_text(json.dumps(written, indent=2) + "\n")
        _show(run, written, console)
        console.print(f"{written['seconds']} s; everything that was measured is in {chosen.output}")
    return broken or _verdict(run.figures)


def _told(error: Exception) -> int:
    sys.stderr.write("\n".join([f"bench: {error}", *getattr(error, "__notes__", ())]) + "\n")
    return 2


def _measure(run: _Run) -> None:
    async def until_told() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with tempfile.TemporaryDirectory(prefix="i8s-bench-") as folder:
            await run.all(Path(folder))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(until_told())


def _show(run: _Run, written: dict[str, Any], console: Console) -> None:
    for name, found in run.found.items():
        if "steps" in found:
            timeline.show(f"{name}: where the time goes, medians", found["steps"], console)
    report.show(run.figures, written, console)


def _verdict(figures: list[Figure]) -> int:
    missed = [figure.name for figure in figures if figure.verdict == "missed"]
    if missed:
        sys.stderr.write(f"bench: missed what must be: {'; '.join(missed)}\n")
    return 1 if missed else 0


def _told_by(engines: Sequence[Engine]) -> dict[str, str]:
    """Return what each engine says of itself."""
    told = {}
    for engine in engines:
        with suppress(EngineError):
            told[engine.name] = engine.check()
    return told


def _settings() -> Settings:
    for name in _NEEDED:
        value(os.environ, name)  # noqa: TID251 - likewise
    return Settings.read()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.cluster",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a short version, some minutes")
    parser.add_argument(
        "--output", type=Path, default=Path("bench-cluster.json"), help="where JSON goes"
    )
    parser.add_argument("--phases", nargs="+", choices=PHASES, help="some phases alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
