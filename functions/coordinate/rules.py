"""Who gets a slot: the pool as an allocation ledger, and the choice of the next."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.domain.execution_settings import ExecutionSettings
from shared.domain.quantities import memory_bytes, millicores

Pool = Mapping[str, Any]


def new_pool(name: str, settings: ExecutionSettings) -> dict[str, Any]:
    """Return the document of a pool with nothing taken."""
    return {
        "name": name,
        "capacity": capacity(settings),
        "holders": {},
    }


def capacity(settings: ExecutionSettings) -> dict[str, int]:
    """Return what a pool has in all."""
    return {
        "slots": settings.max_concurrent_executions,
        "cpu": settings.pool_cpu_millicores,
        "memory": settings.pool_memory_bytes,
    }


def holding(execution: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """Return what an execution takes of a pool: a slot, and the share that it asks for."""
    limits = execution["limits"]
    return {
        "user": execution["user_id"],
        "cpu": millicores(limits["cpu_request"]),
        "memory": memory_bytes(limits["memory_request"]),
        "since": at,
    }


def without(pool: Pool, over: Collection[str]) -> Pool:
    """Return the pool as it is once some have given their slots back."""
    holders = {key: holder for key, holder in pool["holders"].items() if key not in over}
    return {**pool, "holders": holders}


def free_slots(pool: Pool) -> int:
    """Return how many slots are free."""
    return max(0, int(pool["capacity"]["slots"]) - len(pool["holders"]))


def fits(pool: Pool, wanted: Mapping[str, Any]) -> bool:
    """Say whether a slot, its processor and its memory are all free."""
    holders = pool["holders"].values()
    return (
        free_slots(pool) > 0
        and sum(holder["cpu"] for holder in holders) + wanted["cpu"] <= pool["capacity"]["cpu"]
        and sum(holder["memory"] for holder in holders) + wanted["memory"]
        <= pool["capacity"]["memory"]
    )


def users_at_limit(pool: Pool, settings: ExecutionSettings) -> Sequence[str]:
    """Return the users who run as many as one user may; they are skipped, nobody waits for them."""
    running = Counter(holder["user"] for holder in pool["holders"].values())
    return sorted(u for u, count in running.items() if count >= settings.max_concurrent_per_user)


def grants(
    pool: Pool, waiting: Sequence[Mapping[str, Any]], settings: ExecutionSettings, *, at: datetime
) -> dict[str, dict[str, Any]]:
    """Return who gets a slot, by id, and what they hold of the pool; `waiting` in order of rank.

    Who holds one already, of a grant that a crash cut off, keeps it. A user at the limit is
    skipped; whoever else does not fit holds up those behind, or a large one would wait for ever.
    """
    ledger = {**pool, "holders": dict(pool["holders"])}
    granted = {}
    for execution in waiting:
        execution_id = execution["execution_id"]
        wanted = ledger["holders"].get(execution_id)
        if wanted is None:
            wanted = holding(execution, at)
            if wanted["user"] in users_at_limit(ledger, settings):
                continue
            if not fits(ledger, wanted):
                break
        granted[execution_id] = ledger["holders"][execution_id] = wanted
    return granted


def mean_duration(recent: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean seconds that runs took; None with fewer than five of them."""
    durations: list[float] = [
        (run["finished_at"] - run["started_at"]).total_seconds()
        for run in recent
        if run.get("finished_at") and run.get("started_at")
    ]
    if len(durations) < 5:  # noqa: PLR2004 - fewer say nothing about the next one
        return None
    return sum(durations) / len(durations)


def estimated_wait(position: int, mean: float | None, slots: int) -> float | None:
    """Return position x mean duration / slots, in seconds."""
    return None if mean is None else round(position * mean / slots, 3)
