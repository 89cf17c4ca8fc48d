"""The scripted cluster keeps the promises of its port, and does what its script says."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.adapters.scripted.cluster import Play, ScriptedCluster, by_script
from shared.domain.errors import PermanentError, TemporaryError
from shared.ports.cluster import Cause, Limits, Pod, PodOutput, PodPhase, PodSpec, Runtime
from tests.virtual_time import LoopClock, run_virtually

SECOND = timedelta(seconds=1)
NOW = timedelta(0)


def pod_spec(name: str = "exec-1", *, timeout: float = 30, limits: Limits | None = None) -> PodSpec:
    """Return one pod."""
    return PodSpec(
        name=name,
        execution_id=name.removeprefix("exec-"),
        saga_id="s",
        user_id="u",
        runtime=Runtime("python", "3.11", "python:3.11-slim", ("python",), "main.py"),
        script=b"print('hi')",
        timeout=timedelta(seconds=timeout),
        limits=limits or Limits(),
    )


async def story(cluster: ScriptedCluster, *, until_deleted: bool = False) -> list[Pod | PodOutput]:
    """Watch one pod to its end."""
    seen: list[Pod | PodOutput] = []
    async for item in cluster.watch():
        seen.append(item)
        if isinstance(item, Pod) and (item.deleted if until_deleted else item.end is not None):
            break
    return seen


def watched(
    play: Play, spec: PodSpec | None = None
) -> tuple[list[Pod | PodOutput], ScriptedCluster]:
    """Run one pod to its end; return what a watch saw."""

    async def run() -> tuple[list[Pod | PodOutput], ScriptedCluster]:
        cluster = ScriptedCluster(LoopClock(), lambda _: play)
        watching = asyncio.create_task(story(cluster))
        await cluster.create(spec or pod_spec())
        return await watching, cluster

    return run_virtually(run())


def last(seen: list[Pod | PodOutput]) -> Pod:
    """Return the last word about the pod."""
    assert isinstance(seen[-1], Pod)
    return seen[-1]


def test_a_pod_waits_runs_prints_and_ends() -> None:
    """The phases come in order, output between them, and the end brings what was printed."""
    play = Play(prints=(("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c")), exit_code=3)

    seen, cluster = watched(play)

    pods = [item.phase for item in seen if isinstance(item, Pod)]
    outputs = [(i.stream, i.offset, i.data) for i in seen if isinstance(i, PodOutput)]
    end = last(seen).end
    assert pods == [PodPhase.PENDING, PodPhase.RUNNING, PodPhase.ENDED]
    assert outputs == [("stdout", 0, b"a"), ("stderr", 0, b"b"), ("stdout", 1, b"c")]
    assert end is not None
    assert (end.cause, end.exit_code, end.output_chunks) == (Cause.EXIT, 3, 3)
    assert (end.stdout.kept, end.stderr.kept) == (b"ac", b"b")
    assert [deed.what for deed in cluster.ledger] == ["create", "end"]


@pytest.mark.parametrize(
    ("play", "cause"),
    [
        pytest.param(Play(running=timedelta(seconds=31)), Cause.DEADLINE, id="too long"),
        pytest.param(Play(cause=Cause.OUT_OF_MEMORY), Cause.OUT_OF_MEMORY, id="memory"),
        pytest.param(Play(cause=Cause.IMAGE_PULL, starts=False), Cause.IMAGE_PULL, id="no image"),
        pytest.param(Play(cause=Cause.SIGNAL, signal=11), Cause.SIGNAL, id="signal"),
        pytest.param(Play(prints=(("stdout", b"x" * 101),)), Cause.OUTPUT_FLOOD, id="flood"),
    ],
)
def test_a_pod_ends_by_its_cause(play: Play, cause: Cause) -> None:
    """Time limit, memory, image, signal and flood are each reported as what they are."""
    limits = Limits(output_kept_bytes=10, output_drained_bytes=100)

    seen, _ = watched(play, pod_spec(limits=limits))

    end = last(seen).end
    assert end is not None
    assert end.cause is cause
    assert end.message


def test_a_time_limit_ends_a_pod_to_the_second() -> None:
    """The limit counts from the start of the script, not of the pod."""
    seen, _ = watched(Play(starting=timedelta(seconds=100), running=timedelta(hours=1)))

    pod = last(seen)
    assert pod.ended_at is not None
    assert pod.started_at is not None
    assert abs(pod.ended_at - pod.started_at - timedelta(seconds=30)) < timedelta(milliseconds=1)


def test_what_is_over_the_kept_limit_is_counted_and_dropped() -> None:
    """The chunk that reaches the limit says so, and the end knows the whole length."""
    seen, _ = watched(
        Play(prints=(("stdout", b"12345678"), ("stdout", b"abcdefgh"))),
        pod_spec(limits=Limits(output_kept_bytes=10)),
    )

    outputs = [(i.data, i.truncated) for i in seen if isinstance(i, PodOutput)]
    end = last(seen).end
    assert outputs == [(b"12345678", False), (b"ab", True)]
    assert end is not None
    assert (end.stdout.kept, end.stdout.total_bytes) == (b"12345678ab", 16)


def scripted(
    test: Callable[[ScriptedCluster], object], play: Play | None = None
) -> ScriptedCluster:
    """Run a coroutine function on a cluster of its own."""

    async def run() -> ScriptedCluster:
        cluster = ScriptedCluster(LoopClock(), lambda _: play or Play())
        await test(cluster)  # type: ignore[misc]
        await cluster.close()
        return cluster

    return run_virtually(run())


def deeds(cluster: ScriptedCluster) -> list[str]:
    """Return what happened."""
    return [deed.what for deed in cluster.ledger]


def test_create_is_idempotent_by_name() -> None:
    """While it runs and after it ended, a second call makes nothing."""

    async def twice(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        await cluster.create(pod_spec())
        await story(cluster)
        await cluster.create(pod_spec())

    assert deeds(scripted(twice)) == ["create", "end"]


def test_a_lost_answer_is_a_pod_all_the_same() -> None:
    """The caller is told nothing, the pod exists, and the next call says so."""

    async def lost(cluster: ScriptedCluster) -> None:
        with pytest.raises(TemporaryError):
            await cluster.create(pod_spec())
        await cluster.create(pod_spec())
        await story(cluster)

    assert deeds(scripted(lost, Play(answer_lost=1))) == ["create", "end"]


def test_a_refused_pod_is_never_made() -> None:
    """It fails for good and leaves nothing."""

    async def refused(cluster: ScriptedCluster) -> None:
        with pytest.raises(PermanentError):
            await cluster.create(pod_spec())

    assert deeds(scripted(refused, Play(refused=True))) == []


def test_a_cancelled_pod_is_kept_until_it_is_deleted() -> None:
    """It ends as cancelled with its output, and goes when told."""
    found: list[Pod] = []

    async def cancel(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        await LoopClock().sleep(SECOND)
        await cluster.delete("exec-1", grace=NOW, cancel=True)
        found.extend(await cluster.list())
        await cluster.delete("exec-1", grace=NOW)
        found.extend(await cluster.list())

    play = Play(running=timedelta(seconds=3), prints=(("stdout", b"x"),) * 5)
    cluster = scripted(cancel, play)

    [pod] = found
    assert pod.end is not None
    assert pod.end.cause is Cause.CANCELLED
    assert pod.end.stdout.kept == b"x"
    assert deeds(cluster) == ["create", "end", "gone"]


def test_a_stubborn_pod_ends_after_the_grace() -> None:
    """TERM is ignored, KILL is not."""
    took: list[float] = []

    async def kill(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        await LoopClock().sleep(SECOND)
        before = LoopClock().monotonic()
        await cluster.delete("exec-1", grace=2 * SECOND, cancel=True)
        took.append(LoopClock().monotonic() - before)

    scripted(kill, Play(running=timedelta(minutes=1), ignores_term=True))

    assert took == [pytest.approx(2)]


def test_deleting_what_is_missing_is_success() -> None:
    """Nothing happens, as often as it is asked."""

    async def delete(cluster: ScriptedCluster) -> None:
        await cluster.delete("exec-1", grace=NOW)
        await cluster.delete("exec-1", grace=NOW, cancel=True)

    assert deeds(scripted(delete)) == []


def test_a_late_watch_is_told_everything() -> None:
    """All output comes again, before the word that the pod ended."""

    async def late(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        first = await story(cluster)
        again = await story(cluster)
        assert [type(item) for item in again] == [PodOutput, PodOutput, Pod]
        assert [i for i in again if isinstance(i, PodOutput)] == [
            i for i in first if isinstance(i, PodOutput)
        ]
        assert again[-1] == first[-1]

    scripted(late, Play(prints=(("stdout", b"a"), ("stderr", b"b"))))


def test_the_last_word_is_that_it_is_gone() -> None:
    """A watch hears of a removal, once."""

    async def gone(cluster: ScriptedCluster) -> None:
        watching = asyncio.create_task(story(cluster, until_deleted=True))
        await cluster.create(pod_spec())
        await LoopClock().sleep(SECOND)
        await cluster.delete("exec-1", grace=NOW)
        seen = await watching
        assert [item.deleted for item in seen if isinstance(item, Pod)].count(True) == 1

    scripted(gone, Play(prints=()))


@pytest.mark.parametrize("cause", [Cause.NODE_LOST, Cause.EVICTED])
def test_a_node_may_strike(cause: Cause) -> None:
    """What ends a pod from outside is reported as that."""

    async def strike(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        await LoopClock().sleep(SECOND)
        await cluster.strike("exec-1", cause)
        [pod] = await cluster.list()
        assert pod.end is not None
        assert pod.end.cause is cause

    scripted(strike, Play(running=timedelta(minutes=1)))


def test_a_watch_may_end_without_a_word() -> None:
    """The iteration simply ends, and the next one starts with everything."""

    async def cut(cluster: ScriptedCluster) -> None:
        await cluster.create(pod_spec())
        cluster_watch = cluster.watch()
        first = await anext(cluster_watch)
        cluster.end_watches()
        rest = [item async for item in cluster_watch]
        assert isinstance(first, Pod)
        assert all(isinstance(item, Pod) for item in rest)
        assert (await story(cluster))[-1].name == "exec-1"

    scripted(cut)


def test_the_script_chooses_the_play() -> None:
    """Plays are found by the text of the script, the others do the usual thing."""
    policy = by_script({"print('hi')": Play(exit_code=7)}, Play(exit_code=8))
    other = pod_spec()

    assert policy(pod_spec()).exit_code == 7
    assert policy(PodSpec(other.name, "1", "s", "u", other.runtime, b"other")).exit_code == 8
