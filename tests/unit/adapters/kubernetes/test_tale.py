"""One pod's tale, from changes and a log that are played to it on virtual time."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.kubernetes.frames import Frame, Printed, Reported, Started
from shared.adapters.kubernetes.logs import Take
from shared.adapters.kubernetes.tale import Tale
from shared.domain.errors import TemporaryError
from shared.ports.cluster import Cause, Pod, PodEnd, PodOutput, PodPhase
from tests.unit.adapters.kubernetes.manifests import (
    CREATING,
    OVER,
    RUNNING,
    manifest,
    report,
    terminated,
    waiting,
)
from tests.virtual_time import LoopClock, run_virtually

STARTED = Started(datetime(2026, 11, 21, 6, 0, 2, tzinfo=UTC))
LEFT = Reported(report())
CUT = TemporaryError("it broke off")

Step = Frame | float | TemporaryError
"""A frame, a pause in seconds, or the end of the connection."""


def out(offset: int, data: bytes) -> Printed:
    """Return output."""
    return Printed("stdout", offset, data, truncated=False)


@dataclass
class PlayedLogs:
    """Logs that are played from a script, one for each connection; the last one again and again."""

    connections: Sequence[Iterable[Step] | None]
    opened: int = 0
    was_over: list[bool] = field(default_factory=list)

    async def read(self, name: str, take: Take, *, is_over: bool) -> bool:
        """Play the next connection; None stands for a log that is not there."""
        assert name == "exec-1"
        steps = self.connections[min(self.opened, len(self.connections) - 1)]
        self.opened += 1
        self.was_over.append(is_over)
        if steps is None:
            return False
        for step in steps:
            if isinstance(step, TemporaryError):
                raise step
            if isinstance(step, float):
                await LoopClock().sleep(timedelta(seconds=step))
            elif not await take(step):
                break
        return True


@dataclass
class Stage:
    """A tale that is told, and everything that it said, with the seconds when it did."""

    said: list[tuple[float, Pod | PodOutput]]

    @property
    def pods(self) -> list[Pod]:
        """All states that were said."""
        return [item for _, item in self.said if isinstance(item, Pod)]

    @property
    def phases(self) -> list[PodPhase]:
        """Their phases; the last word has none of its own."""
        return [pod.phase for pod in self.pods if not pod.deleted]

    @property
    def printed(self) -> bytes:
        """All output that was said."""
        return b"".join(item.data for _, item in self.said if isinstance(item, PodOutput))

    @property
    def end(self) -> PodEnd:
        """The one end."""
        (end,) = [pod.end for pod in self.pods if pod.end is not None and not pod.deleted]
        return end

    @property
    def ended_at(self) -> float:
        """When it was said."""
        return next(when for when, item in self.said if isinstance(item, Pod) and item.end)


Change = tuple[float, dict[str, Any] | None]
"""After so many seconds the pod is like this; None where it is gone."""


def tell(
    pod: dict[str, Any],
    *changes: Change,
    logs: Sequence[Iterable[Step] | None] = ((),),
    was_told: bool = False,
    slow: float = 0.0,
    reads: PlayedLogs | None = None,
) -> Stage:
    """Tell a tale to its last word; after the last change the pod is removed."""
    logs_played = reads or PlayedLogs(logs)
    return run_virtually(_tell(pod, changes, logs_played, was_told=was_told, slow=slow))


async def _tell(
    pod: dict[str, Any],
    changes: Sequence[Change],
    logs: PlayedLogs,
    *,
    was_told: bool,
    slow: float,
) -> Stage:
    loop, clock = asyncio.get_running_loop(), LoopClock()
    said: list[tuple[float, Pod | PodOutput]] = []

    async def say(item: Pod | PodOutput) -> None:
        if slow:
            await clock.sleep(timedelta(seconds=slow))
        said.append((round(loop.time(), 3), item))

    tale = Tale(pod, logs=logs, clock=clock, say=say, was_told=was_told)
    telling = asyncio.create_task(tale.tell())
    await _change(tale, changes, clock)
    while not any(isinstance(item, Pod) and item.end for _, item in said):
        assert not telling.done()
        await clock.sleep(timedelta(seconds=1))
    tale.remove()
    await telling
    return Stage(said)


async def _change(tale: Tale, changes: Sequence[Change], clock: LoopClock) -> None:
    for seconds, pod in changes:
        await clock.sleep(timedelta(seconds=seconds))
        if pod is None:
            tale.remove()
        else:
            tale.update(pod)


def test_usual_run_is_told_in_order() -> None:
    """Each state once, output before the end, deleted last."""
    told = tell(
        manifest(node=None),
        (1, manifest(CREATING)),
        (1, manifest(RUNNING, phase="Running")),
        logs=[[STARTED, out(0, b"a"), 2.0, out(1, b"b"), LEFT]],
    )

    assert told.phases == [PodPhase.PENDING, PodPhase.PENDING, PodPhase.RUNNING, PodPhase.ENDED]
    assert [pod.node_name for pod in told.pods[:2]] == [None, "node1"]
    assert (told.end.cause, told.end.stdout.kept, told.end.output_chunks) == (Cause.EXIT, b"ab", 2)
    assert [type(item) for _, item in told.said[-4:]] == [PodOutput, PodOutput, Pod, Pod]
    assert told.pods[-1].deleted


def test_end_is_told_when_the_log_tells_it() -> None:
    """The cluster itself notices a second later; nobody waits for it."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (9, manifest(OVER, phase="Succeeded")),
        logs=[[STARTED, 2.0, LEFT]],
    )

    assert told.ended_at == 2.0


def test_run_that_is_over_before_anybody_looked_is_told_whole() -> None:
    """From a pod that waits to one that has ended: it has run in between."""
    told = tell(
        manifest(CREATING),
        (1, manifest(OVER, phase="Succeeded")),
        logs=[[STARTED, out(0, b"a"), LEFT]],
    )

    assert told.phases == [PodPhase.PENDING, PodPhase.RUNNING, PodPhase.ENDED]
    assert told.printed == b"a"


@pytest.mark.parametrize(
    ("pod", "was_told"),
    [(manifest(OVER, phase="Succeeded"), False), (manifest(RUNNING, phase="Running"), True)],
    ids=["ended", "told by another watch"],
)
def test_states_that_are_over_are_not_said_again(pod: dict[str, Any], was_told: bool) -> None:  # noqa: FBT001
    """A new watch says output and end alone."""
    told = tell(pod, logs=[[STARTED, out(0, b"a"), LEFT]], was_told=was_told)

    assert told.phases == [PodPhase.ENDED]
    assert told.printed == b"a"


def test_same_state_is_said_once() -> None:
    """An update that changes nothing for the port is none."""
    told = tell(
        manifest(CREATING),
        (1, manifest(CREATING)),
        (1, manifest(waiting("ImagePullBackOff"))),
        (1, manifest(OVER, phase="Succeeded")),
        logs=[[STARTED, LEFT]],
    )
    reasons = [pod.waiting_reason for pod in told.pods if pod.phase is PodPhase.PENDING]

    assert reasons == ["ContainerCreating", "ImagePullBackOff"]


# -------------------------------------------------------------------------------- broken streams


def test_broken_stream_is_taken_up_where_it_was() -> None:
    """It is read from the beginning again; what was said is passed over."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        logs=[
            None,
            [STARTED, out(0, b"a"), CUT],
            [CUT],
            [STARTED, out(0, b"a"), out(1, b"b"), CUT],
            [STARTED, out(0, b"a"), out(1, b"b"), out(2, b"c"), LEFT],
        ],
    )

    assert told.printed == told.end.stdout.kept == b"abc"
    assert told.phases == [PodPhase.RUNNING, PodPhase.ENDED]


def test_report_of_the_termination_log_counts_where_the_log_lacks_it() -> None:
    """A log may have been cut by its runtime."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (3, manifest(terminated(message=report(status=4 << 8)), phase="Succeeded")),
        logs=[[STARTED, out(0, b"a")]],
    )

    assert (told.end.cause, told.end.exit_code, told.printed) == (Cause.EXIT, 4, b"a")


def test_log_that_stays_away_does_not_keep_the_end() -> None:
    """It is asked for a few times."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (3, manifest(terminated(message=report(stdout_total=7)), phase="Succeeded")),
        logs=[None],
    )

    assert told.end.cause is Cause.EXIT
    assert (told.end.stdout.kept, told.end.stdout.total_bytes) == (b"", 7)
    assert told.ended_at < 6


def test_stream_that_fell_silent_is_given_up_after_the_end() -> None:
    """And read once more, for what it may have kept back."""
    reads = PlayedLogs([[STARTED, 500.0], [STARTED, out(0, b"a"), LEFT]])
    told = tell(
        manifest(RUNNING, phase="Running"), (3, manifest(OVER, phase="Succeeded")), reads=reads
    )

    assert told.printed == b"a"
    assert reads.was_over == [False, True]
    assert told.ended_at <= 5


def test_server_that_is_slow_is_given_more_time_each_time() -> None:
    """An end without its output is the last resort."""
    reads = PlayedLogs([[500.0], [500.0], [6.0, STARTED, out(0, b"a"), LEFT]])
    told = tell(manifest(OVER, phase="Succeeded"), reads=reads)

    assert told.printed == b"a"
    assert told.ended_at == 12.0


def test_log_that_never_answers_does_not_keep_the_end() -> None:
    """Its report is in the object."""
    told = tell(manifest(OVER, phase="Succeeded"), logs=[[500.0]])

    assert (told.end.cause, told.printed) == (Cause.EXIT, b"")
    assert told.ended_at == 30.0


def test_slow_reader_gets_everything() -> None:
    """However long it takes: a stream that waits for it has not fallen silent."""
    chunks = [out(number, b"x") for number in range(50)]
    told = tell(
        manifest(RUNNING, phase="Running"),
        (1, manifest(OVER, phase="Succeeded")),
        logs=[[STARTED, *chunks, LEFT]],
        slow=30.0,
    )

    assert told.printed == told.end.stdout.kept == b"x" * 50


# ------------------------------------------------------------------------------------ early ends


def test_image_that_cannot_be_pulled_is_an_end_after_a_minute() -> None:
    """Counted from when it was first seen, over both words for it."""
    told = tell(
        manifest(CREATING),
        (5, manifest(waiting("ErrImagePull"))),
        (50, manifest(waiting("ImagePullBackOff"))),
    )

    assert (told.end.cause, told.end.started) == (Cause.IMAGE_PULL, False)
    assert told.ended_at == 65.0


def test_wait_begins_anew_for_another_reason() -> None:
    """An image that came at last is no excuse for a container that does not start."""
    told = tell(
        manifest(waiting("ErrImagePull")),
        (50, manifest(CREATING)),
        (50, manifest(waiting("CreateContainerError"))),
    )

    assert told.end.cause is Cause.CONTAINER_START
    assert told.ended_at == 130.0


def test_run_that_was_cancelled_before_it_began_never_ran() -> None:
    """Its process 1 was there, and started nothing."""
    told = tell(
        manifest(CREATING, order="cancel 0"),
        (1, manifest(RUNNING, phase="Running", order="cancel 0")),
        logs=[[Reported(report(cause="cancel", started=0))]],
    )

    assert told.phases == [PodPhase.PENDING, PodPhase.ENDED]
    assert (told.end.cause, told.end.started, told.end.usage) == (Cause.CANCELLED, False, None)


def test_pod_that_goes_while_it_waits_is_lost() -> None:
    """Somebody removed it by force."""
    told = tell(manifest(CREATING), (1, None))

    assert (told.end.cause, told.end.started) == (Cause.POD_LOST, False)
    assert [pod.deleted for pod in told.pods] == [False, False, True]


# ----------------------------------------------------------------------------------- late reasons


def test_who_asked_for_the_end_is_waited_for() -> None:
    """Process 1 only knows that it was asked; the cluster says by what a moment later."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (3, manifest(terminated(message=""), phase="Failed", reason="DeadlineExceeded")),
        logs=[[STARTED, 1.0, Reported(report(cause="asked", status=15))]],
    )

    assert (told.end.cause, told.end.signal) == (Cause.DEADLINE, 15)


def test_removed_run_keeps_its_output() -> None:
    """What arrived until then is in its end, which is said before it is gone."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (1, None),
        logs=[[STARTED, out(0, b"a"), 9.0, LEFT]],
    )

    assert (told.end.cause, told.end.stdout.kept) == (Cause.POD_LOST, b"a")
    assert told.said[-1][0] < 3


def test_deleted_pod_without_an_end_has_lost_its_node() -> None:
    """A node that is gone says nothing; the pod would stay for ever."""
    told = tell(
        manifest(RUNNING, phase="Running"),
        (1, manifest(RUNNING, phase="Running", deleted=True)),
        logs=[[STARTED, out(0, b"a"), 5000.0]],
    )

    assert (told.end.cause, told.end.stdout.kept) == (Cause.NODE_LOST, b"a")
    assert 60 <= told.ended_at < 130


def test_deleted_pod_that_never_began_has_lost_its_node_too() -> None:
    """A cancel that nobody can carry out is a cancel all the same."""
    told = tell(
        manifest(CREATING), (1, manifest(CREATING, deleted=True, order="cancel 0")), logs=[None]
    )

    assert (told.end.cause, told.end.started) == (Cause.CANCELLED, False)
