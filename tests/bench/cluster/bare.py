"""The floor: the script in a pod of the same image, made by a client that does nothing else.

Beside it stands the pod as our adapter makes it, with its inputs, its limits and its own process 1,
but without any function: what lies between the two is the price of isolation, not of the events.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final, Self

from shared.adapters.kubernetes import credentials
from shared.adapters.kubernetes.api import ApiServer
from shared.adapters.kubernetes.cluster import KubernetesCluster, KubernetesOptions
from shared.adapters.system.clock import SystemClock
from shared.domain.errors import Integr8sError
from shared.domain.runtimes import LANGUAGES, Offer
from shared.ports.cluster import Limits, Pod, PodPhase, PodSpec, Runtime
from tests.bench.client import HELLO
from tests.bench.cluster.sightings import PodWatch, Sighting
from tests.cluster.kubectl import Kubectl
from tests.ledger import pause

NAMESPACE: Final = "integr8s-bench"
LANGUAGE, VERSION = "python", "3.11"
IMAGE: Final = f"localhost/integr8s-executor-{LANGUAGE}:{VERSION}"
_RUN_SECONDS: Final = 60.0
_LIMITS: Final = Limits(cpu_request_millicores=10, memory_request_bytes=32 * 1024 * 1024)
"""As the test cluster's installation has them."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The two clients that are no service."""

    api: ApiServer
    bare: "BarePods"
    adapter: "AdapterPods"


@asynccontextmanager
async def floor(command: Kubectl) -> AsyncIterator[Floor]:
    """Have both in a namespace of their own, which goes with them."""
    api = ApiServer(credentials.find(command.kubeconfig))
    remove = ("delete", "namespace", NAMESPACE, "--ignore-not-found")
    await asyncio.to_thread(command, *remove)
    await asyncio.to_thread(command, "create", "namespace", NAMESPACE)
    account = ("serviceaccount/default", "-n", NAMESPACE)
    try:
        # Without it no pod is admitted, and a controller makes it in its own time.
        await asyncio.to_thread(command, "wait", *account, "--for=create", "--timeout=30s")
        watch = await PodWatch.open(api, NAMESPACE)
        adapter = await AdapterPods.open(command.kubeconfig)
        try:
            yield Floor(api, BarePods(api, watch), adapter)
        finally:
            await watch.close()
            await adapter.close()
    finally:
        await api.close()
        await asyncio.to_thread(command, *remove)


@dataclass(slots=True)
class BarePods:
    """A client of the API server that makes pods and watches them."""

    api: ApiServer
    watch: PodWatch
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def run(self) -> tuple[float, Sighting]:
        """Make a pod, wait until the watch shows that it succeeded, and remove it.

        Returns:
            When it was asked for, and what was seen of it; both by the wall clock.

        Raises:
            RuntimeError: It failed.
        """
        name, begun = f"bare-{next(self.numbers)}", time()
        await self.api.make(self.watch.path, _manifest(name))
        seen = await self.watch.ended(name, _RUN_SECONDS)
        await self.api.remove(f"{self.watch.path}/{name}", grace_seconds=0)
        if seen.phase != "Succeeded":
            raise RuntimeError(f"the bare pod {name} ended as {seen.phase}")
        return begun, seen

    async def at_once(self, workers: int, seconds: float, ramp: float) -> float:
        """Return how many a second so many workers reach, after a time in which they start."""
        return await rate_of([self.run] * workers, seconds, ramp)


async def rate_of(
    workers: Sequence[Callable[[], Awaitable[object]]], seconds: float, ramp: float
) -> float:
    """Return how many runs a second workers end that each do one after the other.

    Those count that end after the ramp and before the end; every run that was begun is ended.
    """
    begun = perf_counter()
    ends: list[float] = []

    async def work(run: Callable[[], Awaitable[object]]) -> None:
        while perf_counter() - begun < ramp + seconds:
            await run()
            ends.append(perf_counter() - begun)

    await asyncio.gather(*map(work, workers))
    return sum(ramp <= end < ramp + seconds for end in ends) / seconds


def _manifest(name: str) -> dict[str, Any]:
    requests = {
        "cpu": f"{_LIMITS.cpu_request_millicores}m",
        "memory": str(_LIMITS.memory_request_bytes),
    }
    limits = {"cpu": f"{_LIMITS.cpu_millicores}m", "memory": str(_LIMITS.memory_bytes)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "script",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", HELLO],
                    "resources": {"requests": requests, "limits": limits},
                }
            ],
        },
    }


@dataclass(slots=True)
class AdapterPods:
    """Our adapter and nothing around it; `open` it."""

    cluster: KubernetesCluster
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    awaited: "dict[str, asyncio.Future[None]]" = field(default_factory=dict)
    watching: "asyncio.Task[None] | None" = None

    @classmethod
    async def open(cls, kubeconfig: Path) -> Self:
        """Begin to watch the namespace, which must be there."""
        options = KubernetesOptions(
            namespace=NAMESPACE,
            internet_sockets=False,
            offer=Offer({LANGUAGE: (VERSION,)}, images={LANGUAGE: {VERSION: IMAGE}}),
            canary_image=IMAGE,
            kubeconfig=kubeconfig,
        )
        adapter = cls(KubernetesCluster(options, clock=SystemClock()))
        adapter.watching = asyncio.create_task(adapter._watch())
        return adapter

    async def run(self) -> float:
        """Return the seconds from `create` until the adapter's watch says that it ended."""
        name = f"exec-bench-{next(self.numbers)}"
        ended = self.awaited[name] = asyncio.get_running_loop().create_future()
        begun = perf_counter()
        await self.cluster.create(_spec(name))
        async with asyncio.timeout(_RUN_SECONDS):
            await ended
        taken = perf_counter() - begun
        del self.awaited[name]
        await self.cluster.delete(name, grace=timedelta(0))
        return taken

    async def close(self) -> None:
        """Let go of the API server."""
        if self.watching is not None:
            self.watching.cancel()
            with suppress(asyncio.CancelledError):
                await self.watching
        await self.cluster.close()

    async def _watch(self) -> None:
        while True:
            with suppress(Integr8sError):
                watch: Any = self.cluster.watch()
                async with aclosing(watch):
                    async for item in watch:
                        self._note(item)
            await pause(0.1)

    def _note(self, item: object) -> None:
        if not isinstance(item, Pod) or item.phase is not PodPhase.ENDED:
            return
        awaited = self.awaited.get(item.name)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)


def _spec(name: str) -> PodSpec:
    language = LANGUAGES[LANGUAGE]
    return PodSpec(
        name=name,
        execution_id=name,
        saga_id=name,
        user_id="bench",
        runtime=Runtime(
            language=LANGUAGE,
            version=VERSION,
            image=IMAGE,
            command=language.command,
            filename=language.filename,
            environment=language.environment_of_run(),
        ),
        script=HELLO.encode(),
        limits=_LIMITS,
    )
