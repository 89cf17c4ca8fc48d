"""All pods of a watch, and how it goes on when its stream does not."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from shared.adapters.kubernetes.cluster import KubernetesCluster
from shared.domain.errors import TemporaryError
from shared.ports.cluster import Cause, Pod, PodOutput, PodPhase
from tests.unit.adapters.kubernetes import servers
from tests.unit.adapters.kubernetes.manifests import CREATING, OVER, RUNNING, manifest, report
from tests.unit.adapters.kubernetes.servers import CUT, PODS, FakeServer, Fault, refusal
from tests.virtual_time import LoopClock, run_virtually

LOG = b"s 1795240802000000000\no 0 aGkK\nr " + report().encode() + b"\n"


@dataclass
class Watched:
    """A watch that goes on, and what it said."""

    server: FakeServer
    cluster: KubernetesCluster
    items: list[Pod | PodOutput] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None

    async def follow(self) -> None:
        """Remember everything."""
        async for item in self.cluster.watch():
            self.items.append(item)

    def said(self) -> list[str]:
        """Return what was said in short: name and phase, or that it is gone."""
        return [
            f"{item.name} {'deleted' if item.deleted else item.phase.value}"
            for item in self.items
            if isinstance(item, Pod)
        ]


async def settle(seconds: float = 1.0) -> None:
    """Let everything happen that is due."""
    await LoopClock().sleep(timedelta(seconds=seconds))


@asynccontextmanager
async def watching(*pods: dict[str, Any], **logs: bytes) -> AsyncIterator[Watched]:
    """Watch a server with some pods."""
    server = FakeServer(logs={f"exec-{name}": log for name, log in logs.items()})
    for pod in pods:
        server.put(f"{PODS}/{pod['metadata']['name']}", pod)
    watched = Watched(server, servers.cluster(server))
    watched.task = asyncio.create_task(watched.follow())
    await settle()
    yield watched
    watched.task.cancel()
    await asyncio.wait({watched.task})
    await watched.cluster.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on virtual time."""
    run_virtually(test)


def test_pods_are_told_as_they_are_then_as_they_change() -> None:
    """From the list on, nothing is asked for again."""

    async def test() -> None:
        async with watching(manifest(CREATING, name="exec-a"), b=LOG) as watched:
            watched.server.put(f"{PODS}/exec-b", manifest(CREATING, name="exec-b"))
            await settle()
            watched.server.change(
                "exec-b", **manifest(OVER, name="exec-b", phase="Succeeded")["status"]
            )
            await settle()
            watched.server.delete(f"{PODS}/exec-b")
            await settle()

            assert watched.said() == [
                *("exec-a pending", "exec-b pending", "exec-b running"),
                *("exec-b ended", "exec-b deleted"),
            ]
            assert [item.data for item in watched.items if isinstance(item, PodOutput)] == [b"hi\n"]
            assert watched.server.told[:2] == ["GET /pods", "GET /pods"]
            assert watched.server.watched_from == ["11"]

    run(test())


def test_broken_stream_is_taken_up() -> None:
    """From the last version that was seen, without telling anything again."""

    async def test() -> None:
        async with watching(manifest(CREATING, name="exec-a")) as watched:
            watched.server.put(f"{PODS}/exec-b", manifest(CREATING, name="exec-b"))
            await settle()
            watched.server.watches[-1].send(CUT)
            await settle()

            assert watched.said() == ["exec-a pending", "exec-b pending"]
            assert watched.server.watched_from == ["11", "12"]

    run(test())


def test_bookmark_moves_the_place_to_go_on_from() -> None:
    """A quiet namespace would expire otherwise."""

    async def test() -> None:
        async with watching() as watched:
            watched.server.tell("BOOKMARK", {"metadata": {"resourceVersion": "99"}})
            watched.server.watches[-1].send(None)
            await settle()

            assert watched.server.watched_from == ["10", "99"]

    run(test())


@pytest.mark.parametrize("by_event", [True, False], ids=["event", "answer"])
def test_expired_watch_lists_again(by_event: bool) -> None:  # noqa: FBT001
    """What went meanwhile is told as deleted; what is there is not told anew."""

    async def test() -> None:
        pods = [manifest(CREATING, name="exec-a"), manifest(RUNNING, name="exec-b")]
        async with watching(*pods, b=b"s 1\no 0 aGkK\n") as watched:
            watched.server.is_mute = True
            del watched.server.objects[f"{PODS}/exec-b"]
            gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
            event = {"type": "ERROR", "object": gone}
            if by_event:
                watched.server.watches[-1].send(json.dumps(event).encode() + b"\n")
            else:
                watched.server.faults = [Fault("GET", PODS, refusal(410, "Expired"))]
                watched.server.watches[-1].send(None)
            await settle(3)

            assert watched.said() == [
                *("exec-a pending", "exec-b running", "exec-b ended", "exec-b deleted"),
            ]
            ends = [item.end for item in watched.items if isinstance(item, Pod) and item.end]
            assert ends[0].cause is Cause.POD_LOST
            assert ends[0].stdout.kept == b"hi\n"

    run(test())


@pytest.mark.parametrize(
    "answer", [httpx2.ConnectError("refused"), refusal(403, "Forbidden"), refusal(500)], ids=repr
)
def test_server_that_is_away_ends_the_watch(answer: httpx2.Response | Exception) -> None:
    """Whoever watches decides when to try again, and is told everything anew."""

    async def test() -> None:
        async with watching() as watched:
            watched.server.faults = [Fault("GET", PODS, answer)]
            watched.server.watches[-1].send(None)
            await settle()
            assert watched.task is not None

            assert isinstance(watched.task.exception(), TemporaryError)

    run(test())


def test_refused_list_ends_the_watch() -> None:
    """The very first request is no other than those that follow."""

    async def test() -> None:
        server = FakeServer(faults=[Fault("GET", PODS, refusal(503))])
        cluster = servers.cluster(server)
        with pytest.raises(TemporaryError):
            await anext(aiter(cluster.watch()))
        await cluster.close()

    run(test())


def test_another_watch_says_everything_again() -> None:
    """From the first byte on; states that are over are left out."""

    async def test() -> None:
        async with watching(manifest(RUNNING, name="exec-a"), a=LOG) as watched:
            late = Watched(watched.server, watched.cluster)
            task = asyncio.create_task(late.follow())
            await settle()
            task.cancel()
            await asyncio.wait({task})

            assert watched.said() == ["exec-a running", "exec-a ended"]
            assert late.said() == ["exec-a ended"]
            assert [type(item) for item in late.items] == [PodOutput, Pod]

    run(test())


def test_list_knows_an_end_before_the_cluster_does() -> None:
    """The log told it; the object is a second behind."""

    async def test() -> None:
        async with watching(manifest(RUNNING, name="exec-a"), a=LOG) as watched:
            (pod,) = await watched.cluster.list()

            assert pod.phase is PodPhase.ENDED
            assert pod.end is not None
            assert pod.end.stdout.kept == b"hi\n"

    run(test())


def test_ends_are_forgotten_with_their_pods() -> None:
    """Also those of pods that went while nobody watched: they hold all their output."""

    async def test() -> None:
        async with watching(manifest(RUNNING, name="exec-a"), a=LOG) as watched:
            assert watched.task is not None
            watched.task.cancel()
            await asyncio.wait({watched.task})
            watched.server.delete(f"{PODS}/exec-a")
            watched.task = asyncio.create_task(watched.follow())
            await settle()

            assert watched.cluster._told == {}

    run(test())


def test_closed_watch_leaves_nothing() -> None:
    """Neither a task nor a stream that somebody waits for."""

    async def test() -> None:
        before = asyncio.all_tasks()
        async with watching(manifest(CREATING, name="exec-a")):
            pass

        assert asyncio.all_tasks() == before

    run(test())
