"""Follow every pod from its creation to its end, and say what it does."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from functions.monitor_pods import rules
from shared.domain.errors import PermanentError, TemporaryError
from shared.domain.executions import TERMINAL
from shared.domain.identifiers import derived_id
from shared.domain.tracing import child_traceparent
from shared.events.event import Event, Payload
from shared.events.executions import ExecutionOutput, ExecutionQueued
from shared.events.origins import origin_id
from shared.ports.clock import Clock
from shared.ports.cluster import Cause, Cluster, Pod, PodOutput
from shared.ports.documents import Documents
from shared.ports.publisher import Publisher

SOURCE = "/integr8s/monitor-pods"
_QUEUE = "/integr8s/coordinate"
_SWEEP_AGE = timedelta(seconds=60)
_RECONNECT = timedelta(seconds=1)
_SILENCE = timedelta(seconds=10)
"""A watch may die without a word; sooner than the saga gives a run up whose end it did not hear."""
_BATCH = 256


class Needs(NamedTuple):
    """The ports of this function."""

    cluster: Cluster
    executions: Documents
    events: Documents
    publisher: Publisher
    clock: Clock


async def run(needs: Needs) -> None:
    """Turn the cluster's watch into facts, until cancelled.

    It keeps no memory that matters: a new watch tells every pod's story from the start, and a
    fact's id follows from the pod, so what is said twice is the same event.
    """
    stories: dict[str, rules.Story] = {}
    while True:
        seen: asyncio.Queue[Pod | PodOutput] = asyncio.Queue(maxsize=_BATCH * 4)
        watching = asyncio.create_task(_watch(needs.cluster, seen))
        pause = _RECONNECT
        try:
            await _follow(watching, seen, stories, needs)
        except TemporaryError as error:
            stories.clear()  # what was noted as said may not have been
            pause = max(error.retry_after, _RECONNECT)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, TemporaryError):
                await watching
        await needs.clock.sleep(pause)


async def reconcile(needs: Needs) -> None:
    """Remove what a crash left behind: pods that outlived their execution, inputs without a pod."""
    now = needs.clock.now()
    for pod in await needs.cluster.list():
        execution = await needs.executions.get(pod.execution_id)
        ended = execution.get("finished_at") if execution else pod.created_at
        over = execution is None or execution["status"] in TERMINAL
        if over and ended is not None and now - ended > _SWEEP_AGE:
            await needs.cluster.delete(pod.name, grace=timedelta(0))
    await needs.cluster.sweep(_SWEEP_AGE)


async def _watch(cluster: Cluster, seen: "asyncio.Queue[Pod | PodOutput]") -> None:
    async for item in cluster.watch():
        await seen.put(item)


async def _follow(
    watching: "asyncio.Task[None]",
    seen: "asyncio.Queue[Pod | PodOutput]",
    stories: dict[str, rules.Story],
    needs: Needs,
) -> None:
    """Say facts as they come, those that came together in one write."""
    while True:
        first = await _next(watching, seen, needs)
        if first is None:
            return  # the watch ended, or fell silent: a new one lists again
        items = [first]
        while len(items) < _BATCH and not seen.empty():
            items.append(seen.get_nowait())
        events: list[Event] = []
        for item in items:
            events += await _events(item, stories, needs)
        if events:
            await _publish(events, needs)


async def _next(
    watching: "asyncio.Task[None]", seen: "asyncio.Queue[Pod | PodOutput]", needs: Needs
) -> Pod | PodOutput | None:
    """Return what was seen next, or None where the watch is over or says nothing any more."""
    if not seen.empty():
        return seen.get_nowait()
    getting = asyncio.ensure_future(seen.get())
    silence = asyncio.ensure_future(needs.clock.sleep(_SILENCE))
    try:
        await asyncio.wait({getting, watching, silence}, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        if watching.done():
            watching.result()
        return None
    finally:
        getting.cancel()
        silence.cancel()


async def _events(
    item: Pod | PodOutput, stories: dict[str, rules.Story], needs: Needs
) -> list[Event]:
    story = stories.get(item.uid)
    if story is None or (isinstance(item, Pod) and rules.has_news_of_the_end(item, story)):
        execution = await needs.executions.get(item.execution_id)
        if execution is None:
            return []  # nobody's pod; the sweep takes it
        if story is None:
            story = stories[item.uid] = rules.Story(execution)
        story.execution = execution  # a cancel may have been recorded meanwhile
    if isinstance(item, PodOutput):
        facts = rules.output_of(item, story)
    else:
        facts = rules.facts_of(await _with_output(item, needs), story)
        if item.deleted:
            stories.pop(item.uid, None)
    return [_event(item, step, data, story, needs) for step, data in facts]


async def _with_output(pod: Pod, needs: Needs) -> Pod:
    """Give a lost pod the output that was told before it was lost: nobody else has it any more."""
    if pod.end is None or pod.end.cause is not Cause.POD_LOST or pod.end.output_chunks:
        return pod
    told = await needs.events.find(
        {"execution_id": pod.execution_id, "event_type": ExecutionOutput.TYPE}, sort=[("seq", 1)]
    )
    return replace(pod, end=rules.with_output(pod.end, [event["data"] for event in told]))


def _event(
    item: Pod | PodOutput, step: str, data: Payload, story: rules.Story, needs: Needs
) -> Event:
    """Return a fact whose id follows from the pod and the step, and which names its predecessor.

    The predecessor may travel on another topic: whoever numbers the history waits for it.
    """
    event_id = derived_id(item.uid, step)
    return Event(
        id=event_id,
        source=SOURCE,
        subject=item.execution_id,
        time=needs.clock.now(),
        data=data,
        correlation_id=story.execution["correlation_id"],
        causation_id=_predecessor(item, step, story),
        traceparent=child_traceparent(story.execution["traceparent"], event_id),
    )


def _predecessor(item: Pod | PodOutput, step: str, story: rules.Story) -> str:
    if step == "created":
        return origin_id(item.execution_id, _QUEUE, ExecutionQueued.TYPE, "granted")
    before_start = step in ("scheduled", "running", "started") or "started" not in story.said
    return derived_id(item.uid, "created" if before_start else "started")


async def _publish(events: list[Event], needs: Needs) -> None:
    """Publish, however long the log is away: a fact that is not said would be lost for good.

    A fact that the log will never take is said without its output: one script that prints what
    grows in JSON must neither lose its end nor stand in the way of other pods.
    """
    try:
        await _publish_patiently(events, needs)
    except PermanentError:
        for event in events:
            try:
                await _publish_patiently([event], needs)
            except PermanentError:
                shorter = replace(event, data=rules.without_output(event.data))
                await _publish_patiently([shorter], needs)


async def _publish_patiently(events: list[Event], needs: Needs) -> None:
    while True:
        try:
            await needs.publisher.publish(events)
        except TemporaryError as error:
            await needs.clock.sleep(error.retry_after)
        else:
            return
