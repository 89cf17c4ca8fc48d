"""What administrators watch: the queue, and which functions are awake."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.answers import Json
from gateway.bodies import query
from gateway.errors import not_found
from gateway.operations import Access, Operation
from gateway.ports import GatewayPorts
from gateway.services import Services
from shared.domain.executions import Priority, Status
from shared.ports.documents import Document
from shared.ports.scaling import FunctionState

_ADMIN = frozenset({"admin"})
_FRONT = 100
"""Executions at the front of the queue whose users are looked at."""
_TOP = 10


def operations(services: Services) -> list[Operation]:
    """Return this resource's operations."""
    ports = services.ports

    async def queue(_: Request) -> Response:
        return Json(await _queue(ports))

    async def scaling(_: Request) -> Response:
        return Json({"functions": [_function(state) for state in await ports.scaling.functions()]})

    async def history(request: Request) -> Response:
        wanted = query(request, schemas.HistoryQuery)
        slug = request.path_params["slug"]
        if slug not in {state.slug for state in await ports.scaling.functions()}:
            raise not_found("function")
        since = ports.clock.now() - timedelta(minutes=wanted.minutes)
        points = [
            {"at": one.at, "replicas": one.replicas, "lag": one.lag, "reason": one.reason}
            for one in ports.scaling.history(slug, since=since)
        ]
        return Json({"slug": slug, "minutes": wanted.minutes, "points": points})

    return [
        Operation(
            method="GET",
            path="/admin/executions/queue",
            endpoint=queue,
            access=Access.MODERATOR,
            scopes=_ADMIN,
            summary="What waits, what runs, and for whom",
            answer=schemas.Queue,
        ),
        Operation(
            method="GET",
            path="/admin/scaling",
            endpoint=scaling,
            access=Access.MODERATOR,
            scopes=_ADMIN,
            summary="Every function: asleep or awake, and why",
            answer=schemas.ScalingAnswer,
        ),
        Operation(
            method="GET",
            path="/admin/scaling/{slug}/history",
            endpoint=history,
            access=Access.MODERATOR,
            scopes=_ADMIN,
            summary="How many replicas a function had, and which rule decided",
            query=schemas.HistoryQuery,
            answer=schemas.ScalingHistory,
            refusals=(404, 422),
        ),
    ]


async def _queue(ports: GatewayPorts) -> dict[str, Any]:
    queued = Status.QUEUED.value
    depth = await ports.executions.count({"status": queued})
    by_priority = {
        priority.value: await ports.executions.count({"status": queued, "priority": priority.value})
        for priority in Priority
        if depth
    }
    front = await ports.executions.find({"status": queued}, sort=[("rank", 1)], limit=_FRONT)
    pools = await ports.pools.find(sort=[("_id", 1)])
    holders = [holder for pool in pools for holder in pool.get("holders", {}).values()]
    now = ports.clock.now()
    waits = [(now - execution["accepted_at"]).total_seconds() for execution in front]
    return {
        "queue_depth": depth,
        "active_count": len(holders),
        "max_concurrent": sum(_slots(pool) for pool in pools)
        or ports.submit.settings.max_concurrent_executions,
        "by_priority": {priority.value: 0 for priority in Priority} | by_priority,
        "oldest_wait_seconds": round(max(waits), 3) if waits else None,
        "pools": [_pool(pool) for pool in pools],
        "top_users": await _top_users(ports, front, holders),
    }


def _slots(pool: Mapping[str, Any]) -> int:
    return int(pool.get("capacity", {}).get("slots", 0))


def _pool(pool: Mapping[str, Any]) -> dict[str, Any]:
    capacity = pool.get("capacity", {})
    return {
        "name": pool.get("name", pool["_id"]),
        "slots": _slots(pool),
        "used": len(pool.get("holders", {})),
        "cpu_millicores": capacity.get("cpu"),
        "memory_bytes": capacity.get("memory"),
    }


async def _top_users(
    ports: GatewayPorts, front: list[Document], holders: list[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return who has most running, then most waiting, among those at the front of the queue."""
    running = Counter(holder["user"] for holder in holders)
    users = set(running) | {execution["user_id"] for execution in front}
    rows = [
        {
            "user_id": user_id,
            "queued": await ports.executions.count(
                {"user_id": user_id, "status": Status.QUEUED.value}
            ),
            "running": running[user_id],
        }
        for user_id in sorted(users)
    ]
    rows.sort(key=lambda row: (row["running"], row["queued"]), reverse=True)
    return rows[:_TOP]


def _function(state: FunctionState) -> dict[str, Any]:
    cold_start = state.last_cold_start
    return {
        "slug": state.slug,
        "replicas": state.replicas,
        "min": state.min_replicas,
        "max": state.max_replicas,
        "lag": dict(state.lag),
        "active": state.active,
        "last_active_at": state.last_active_at,
        "sleeps_at": state.sleeps_at,
        "reason": state.reason,
        "last_cold_start_seconds": None if cold_start is None else cold_start.total_seconds(),
    }
