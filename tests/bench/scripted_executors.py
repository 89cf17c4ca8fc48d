"""launch-pod and monitor-pods on the real engines, with pods that only pretend.

`python -m tests.bench.scripted_executors` is a process of the control plane's benchmark: with real
pods their own time would hide what the functions cost.
"""

import asyncio
import dataclasses
import sys
from datetime import timedelta

from shared.adapters.scripted.cluster import Play, ScriptedCluster
from shared.ports.cluster import Cluster
from shared.runtime.functions import load
from shared.runtime.process import leaving, loop_factory, spare_the_collector
from shared.runtime.replica import Replica
from shared.runtime.settings import Settings
from shared.runtime.wiring.cluster import ClusterEngines
from shared.runtime.wiring.engines import needs_of

_SLUGS = ("launch-pod", "monitor-pods")
_AT_ONCE = Play(starting=timedelta(0), running=timedelta(0))


async def _run() -> None:
    asked = leaving()
    needs = frozenset().union(*(needs_of(load(slug).spec.needs) for slug in _SLUGS)) - {Cluster}
    engines = ClusterEngines.open(Settings.read(), needs)
    try:
        if not await engines.wait(asked):
            return
        cluster = ScriptedCluster(engines.ports.clock, lambda _: _AT_ONCE)
        ports = dataclasses.replace(engines.ports, cluster=cluster)
        replicas = [Replica(slug, ports) for slug in _SLUGS]
        spare_the_collector()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asked.wait()
        for replica in replicas:
            await replica.stop()
    finally:
        await engines.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run())
