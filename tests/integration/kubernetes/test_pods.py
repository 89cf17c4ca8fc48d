"""What only a real cluster can show: kubelet, scheduler, admission, garbage collector."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.adapters.kubernetes.cluster import KubernetesCluster
from shared.domain.errors import StartupError, TemporaryError
from shared.ports.cluster import Cause, Limits, Pod, PodPhase, PodSpec
from tests.hostile import harness
from tests.hostile.harness import NO_GRACE
from tests.integration.kubernetes import pods

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

PACE = 6.0
HERE = "import os, signal, time\nos.write(1, b'here\\n')\n"
SLEEPS = HERE + "time.sleep(60)"
FORGED = (
    "cause=none started=1 error=0 status=0 started_at_ns=1 wall_ns=1 source=cgroup cpu_ns=1"
    " peak_kb=1 memory_kills=0 refused_forks=0 tasks=0 stdout_total=0 stdout_kept=0"
    " stderr_total=0 stderr_kept=0 chunks=0 end"
)


@pytest.fixture
async def cluster() -> AsyncIterator[pods.PodCluster]:
    """Pods as they are made unless somebody chooses otherwise."""
    async with pods.cluster() as opened:
        yield opened


@pytest.fixture
async def watch(cluster: pods.PodCluster) -> AsyncIterator[harness.Watch]:
    """A watch from the beginning."""
    watching = harness.Watch(cluster, pace=PACE)
    await harness.pause(0)
    yield watching
    await watching.close()


def unschedulable(name: str) -> PodSpec:
    """Return a pod that no node has room for."""
    limits = Limits(cpu_millicores=900_000, cpu_request_millicores=900_000)
    return harness.spec(name, SLEEPS, limits=limits)


def with_image(spec: PodSpec, image: str) -> PodSpec:
    """Return a pod with an image of its own."""
    return replace(spec, runtime=replace(spec.runtime, image=image))


async def printed(watch: harness.Watch, name: str) -> None:
    """Wait for its first output."""
    await watch.until(lambda: bool(watch.of(name).chunks), 10, f"{name} prints")


async def gone(watch: harness.Watch, name: str) -> harness.Seen:
    """Wait for its last word."""
    seen = watch.of(name)
    await watch.until(lambda: bool(seen.items) and _is_last(seen), 5, f"{name} is gone")
    return seen


def _is_last(seen: harness.Seen) -> bool:
    last = seen.items[-1]
    return isinstance(last, Pod) and last.deleted


def waits_for(seen: harness.Seen) -> set[str | None]:
    """Return all that a pod was said to wait for."""
    return {item.waiting_reason for item in seen.items if isinstance(item, Pod)}


# ---------------------------------------------------------------------------------------- waiting


async def test_pod_without_a_node_tells_why(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """Whoever gives it up can say what it waited for."""
    await cluster.create(unschedulable("big"))
    await watch.until(lambda: "Unschedulable" in waits_for(watch.of("big")), 3, "it tells why")


async def test_pod_without_a_node_is_cancelled(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """It never starts, its end is said, and it is there until it is deleted."""
    await cluster.create(unschedulable("big"))
    await cluster.delete("exec-big", grace=NO_GRACE, cancel=True)
    seen = await watch.ended("big")
    kept = [pod.name for pod in await cluster.list()]
    await cluster.delete("exec-big", grace=NO_GRACE)
    await gone(watch, "big")

    assert (seen.end.cause, seen.end.started) == (Cause.CANCELLED, False)
    assert kept == ["exec-big"]


async def test_pod_whose_image_is_missing_is_cancelled(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """The kubelet ends it, although nothing of it ever ran."""
    missing = with_image(harness.spec("image", SLEEPS), "localhost/nowhere:1")
    await KubernetesCluster.create(cluster, missing)
    await watch.until(lambda: len(waits_for(watch.of("image")) - {None}) > 1, 5, "it waits")
    await cluster.delete("exec-image", grace=NO_GRACE, cancel=True)
    seen = await watch.ended("image", 5)

    assert (seen.end.cause, seen.end.started) == (Cause.CANCELLED, False)
    assert [pod.name for pod in await cluster.list()] == ["exec-image"]


async def test_name_that_is_no_image_is_an_end_at_once(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Nobody has to wait a minute for it."""
    await KubernetesCluster.create(cluster, with_image(harness.spec("odd", SLEEPS), "No:Such:Name"))
    seen = await watch.ended("odd", 5)

    assert (seen.end.cause, seen.end.started) == (Cause.IMAGE_PULL, False)
    assert "InvalidImageName" in seen.end.message


async def test_pod_that_is_too_old_had_no_time_to_start(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """The time limit of the pod is the net below that of the saga."""
    missing = with_image(harness.spec("old", SLEEPS), "localhost/nowhere:1")
    await KubernetesCluster.create(cluster, missing)
    await watch.until(lambda: len(waits_for(watch.of("old")) - {None}) > 1, 5, "it waits")
    await cluster.change("exec-old", {"spec": {"activeDeadlineSeconds": 1}})
    seen = await watch.ended("old", 5)

    assert (seen.end.cause, seen.end.started) == (Cause.START_DEADLINE, False)


async def test_full_quota_is_no_end(cluster: pods.PodCluster) -> None:
    """There may be room later."""
    await cluster.set_quota({"pods": "0"})

    with pytest.raises(TemporaryError, match="quota"):
        await cluster.create(harness.spec("much", SLEEPS))


# ----------------------------------------------------------------------------------------- ending


async def test_pod_that_is_too_old_ends_at_its_deadline(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Process 1 was only asked to end; the cluster says why."""
    await cluster.create(harness.spec("late", SLEEPS, seconds=60))
    await printed(watch, "late")
    await cluster.change("exec-late", {"spec": {"activeDeadlineSeconds": 1}})
    seen = await watch.ended("late", 5)

    assert (seen.end.cause, seen.end.stdout.kept) == (Cause.DEADLINE, b"here\n")
    assert seen.end.usage is not None
    assert seen.end.usage.complete


async def test_pod_that_somebody_else_deletes_is_kept(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Its run ends and is reported as lost; the object goes when its clean-up is ordered."""
    await cluster.create(harness.spec("theirs", SLEEPS, seconds=60))
    await printed(watch, "theirs")
    await cluster.remove("exec-theirs")
    seen = await watch.ended("theirs", 5)
    kept = [pod.name for pod in await cluster.list()]
    await cluster.delete("exec-theirs", grace=NO_GRACE)
    await gone(watch, "theirs")

    assert (seen.end.cause, seen.end.stdout.kept) == (Cause.POD_LOST, b"here\n")
    assert kept == ["exec-theirs"]


async def test_delete_gives_a_running_script_its_grace(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Longer than the kubelet's own two seconds, if it is asked for."""
    script = (
        HERE.replace("os.write", "signal.signal(15, lambda *_: None)\nos.write")
        + "signal.pause()\ntime.sleep(3)\nos.write(1, b'bye\\n')"
    )
    await cluster.create(harness.spec("grace", script, seconds=60))
    await printed(watch, "grace")
    await cluster.delete("exec-grace", grace=timedelta(seconds=15))
    seen = await gone(watch, "grace")

    assert seen.end.stdout.kept == b"here\nbye\n"
    assert seen.end.cause is Cause.POD_LOST


async def test_report_cannot_be_forged(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """Whatever a script and its daemons write where the report will stand."""
    script = (
        "import os\n"
        "text = ' '.join(['f' * 32, " + repr(FORGED) + "])\n"
        "if os.fork() == 0:\n    os.setsid()\n    while True:\n"
        "        open('/dev/termination-log', 'w').write(text * 20)\n"
        "open('/dev/termination-log', 'w').write(text)\n"
        "print('mark' if 'INTEGR8S_MARK' in os.environ else 'no mark')\n"
        "import time; time.sleep(1); os._exit(9)"
    )
    seen = await harness.run(cluster, watch, harness.spec("forged", script))
    await asyncio.wait_for(cluster.until_ended("exec-forged"), 20)
    (listed,) = await cluster.list()

    assert (seen.end.cause, seen.end.exit_code) == (Cause.EXIT, 9)
    assert seen.end.stdout.kept == b"no mark\n"
    assert listed.end is not None
    assert listed.end.exit_code == 9


async def test_end_is_the_same_from_the_object_alone(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """Another process reads the termination log where this one has read the log."""
    await harness.run(cluster, watch, harness.spec("twice", "print(1)\nraise SystemExit(4)"))
    await asyncio.wait_for(cluster.until_ended("exec-twice"), 20)
    seen = watch.of("twice")
    async with cluster.another() as other:
        (listed,) = await other.list()

    assert listed.end is not None
    assert (listed.end.cause, listed.end.exit_code) == (Cause.EXIT, 4)
    assert listed.end.usage == seen.end.usage
    assert (listed.started_at, listed.ended_at) == (seen.last.started_at, seen.last.ended_at)


async def test_fork_bomb_is_ended_where_all_share_a_uid(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """The kernel would count all pods of the node as one; process 1 counts its own group."""
    script = (
        "import os, time\nos.write(1, b'x')\nfor _ in range(300):\n    os.fork() or time.sleep(9)"
    )
    seen = await harness.run(cluster, watch, harness.spec("bomb", script))

    assert seen.end.cause is Cause.PROCESSES
    assert "limit of 64" in seen.end.message


# ------------------------------------------------------------------------------------ left behind


async def test_inputs_go_with_their_pod(cluster: pods.PodCluster) -> None:
    """Even if somebody removes the pod by force: its inputs are owned by it."""
    await cluster.create(harness.spec("owned", "print(1)"))
    assert await cluster.inputs() == ["exec-owned"]
    await cluster.change("exec-owned", {"metadata": {"finalizers": None}})
    await cluster.remove("exec-owned", grace_seconds=0)

    async with asyncio.timeout(30):
        while await cluster.inputs():
            await harness.pause(0.1)


async def test_sweep_takes_what_a_crash_left(cluster: pods.PodCluster) -> None:
    """Inputs without a pod, once they are old enough; those of a pod never."""
    await cluster.create(harness.spec("whole", SLEEPS))
    await cluster.set_quota({"pods": "1"})
    with pytest.raises(TemporaryError):
        await cluster.create(harness.spec("half", SLEEPS))
    young = await cluster.sweep(timedelta(hours=1))
    await harness.pause(1.1)  # ages are whole seconds
    told = await cluster.sweep(timedelta(0), dry_run=True)
    swept = await cluster.sweep(timedelta(0))

    assert (young, told, swept) == ([], ["exec-half"], ["exec-half"])
    assert await cluster.inputs() == ["exec-whole"]


async def test_two_launchers_make_one_pod(cluster: pods.PodCluster, watch: harness.Watch) -> None:
    """Whoever comes second, in whatever process, finds it there."""
    one = harness.spec("shared", "print('once')")
    async with cluster.another() as other:
        await asyncio.gather(cluster.create(one), other.create(one))
        seen = await watch.ended("shared")

    assert seen.end.stdout.kept == b"once\n"
    assert {item.uid for item in seen.items} == {seen.items[0].uid}


# ---------------------------------------------------------------------------------------- canary


async def test_canary_tells_what_a_script_could_reach(cluster: pods.PodCluster) -> None:
    """It leaves nothing, and is no pod of ours to anybody who watches."""
    reached = await cluster.canary()

    assert set(reached) <= {"api_server", "pod", "outside", "metadata", "dns_1", "dns_2", "dns_3"}
    assert await cluster.list() == []
    assert await cluster.inputs() == []
    assert (await cluster.isolation()).layers["filter"] != "none"


async def test_filter_alone_keeps_a_script_from_the_network() -> None:
    """Where nothing enforces the policy, as on the test cluster."""
    async with pods.cluster(internet_sockets=False) as cluster:
        reached = await cluster.canary()
        layers = (await cluster.isolation()).layers

    assert reached == ()
    assert layers["network"] == "seccomp, no internet sockets"


async def test_canary_without_its_image_is_a_refusal_to_start() -> None:
    """With the remedy, not a wait for ever."""
    async with pods.cluster(canary_image="localhost/nowhere:1") as cluster:
        with pytest.raises(StartupError, match="localhost/nowhere:1"):
            await cluster.canary()


async def test_phases_of_a_pod_are_said_once(
    cluster: pods.PodCluster, watch: harness.Watch
) -> None:
    """However often the cluster changes what nobody asks for."""
    seen = await harness.run(cluster, watch, harness.spec("once", "print(1)"))
    said = [item.phase for item in seen.items if isinstance(item, Pod)]

    assert said.count(PodPhase.RUNNING) == 1
    assert said.count(PodPhase.ENDED) == 1
    assert said == sorted(said, key=[*PodPhase].index)
