"""A process dies right before, or right after, each of its effects, and no rule is broken."""

from typing import Any

import pytest

from shared.domain.errors import TemporaryError
from shared.runtime.invariants import check_all
from tests.scenarios.system import Invoke, Process, System

POINTS = {
    "gateway": ["idempotency_keys.insert", "executions.insert", "idempotency_keys.change"],
    "coordinate": [
        "pools.change",
        "executions.change",
        "timers.insert",
        "log.append",
        "executions.clear",
        "consumer.commit",
    ],
    "saga-step": [
        "sagas.insert",
        "sagas.change",
        "log.append",
        "sagas.clear",
        "consumer.commit",
    ],
    "launch-pod": [
        "executions.change",
        "cluster.create",
        "cluster.delete",
        "log.append",
        "consumer.commit",
    ],
    "monitor-pods": ["executions.get", "log.append"],
    "persist-result": [
        "executions.get",
        "executions.change",
        "log.append",
        "executions.clear",
        "consumer.commit",
    ],
    "relay-events": [
        "events.insert_all",
        "signals.publish_all",
        "consumer.commit",
    ],
}

ONLY_ONCE = {
    ("gateway", "idempotency_keys.change"),
    ("coordinate", "timers.insert"),
    ("persist-result", "executions.get"),
}
"""Points that the story below passes a single time."""
PASSES = [
    pytest.param(slug, operation, nth, id=f"{slug} {operation} {nth}")
    for slug, operations in POINTS.items()
    for operation in operations
    for nth in ((1,) if (slug, operation) in ONLY_ONCE else (1, 2))
]


class Once:
    """Does something bad at the n-th pass of one point."""

    def __init__(self, slug: str, operation: str, action: str, nth: int) -> None:
        self.slug, self.operation, self.action, self.nth = slug, operation, action, nth
        self.passes = 0

    async def around(self, process: Process, operation: str, call: Invoke) -> Any:
        """Do the call, and at the chosen pass the harm."""
        if (process.slug, operation) != (self.slug, self.operation):
            return await call()
        self.passes += 1
        if self.passes != self.nth:
            return await call()
        if self.action == "dies before":
            process.system.crash(process)
            process.ensure_alive()
        await call()
        if self.action == "dies after":
            process.system.crash(process)
            process.ensure_alive()
        raise TemporaryError(f"{operation}: answer lost")


@pytest.mark.parametrize("action", ["dies before", "dies after", "answer lost"])
@pytest.mark.parametrize(("slug", "operation", "nth"), PASSES)
async def test_a_point_may_fail(
    asleep: System, slug: str, operation: str, nth: int, action: str
) -> None:
    """Some executions, one of which has to wait and one of which is cancelled, keep every rule."""
    once = Once(slug, operation, action, nth)
    asleep.interference = once
    asleep.start()

    first = await asleep.submit("long", key="k")
    await asleep.submit("quick", user="bert")
    await asleep.submit("quick", user="carl")
    await asleep.clock_at(2)
    if first.execution_id is not None:
        await asleep.cancel(first.execution_id)
    await asleep.clock_at(5)
    await asleep.submit("long", key="k")
    await asleep.submit("quick", user="dora")
    await asleep.until_quiet(within=1500)

    assert once.passes >= nth, "the point was never reached: nothing was tested"
    assert check_all(await asleep.evidence()) == []
