"""What the clients of a running system asked for and were told, to be judged at the end."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any

from shared.domain.executions import TERMINAL
from shared.runtime.evidence import Call, Frame, Stream
from tests.bench.client import Client, Refused

_LOOK = 0.02
PASSING = frozenset({502, 503, 504})
"""What a client that does not give up tries again: the server is away, or its proxy."""


def now() -> datetime:
    """Return the wall time."""
    return datetime.fromtimestamp(time(), tz=UTC)


async def pause(seconds: float) -> None:
    """Let time pass: between two looks, or to choose the moment of a fault."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, done.set_result, None)
    try:
        await done
    finally:
        timer.cancel()


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Look again and again until something holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await is_so():
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await pause(_LOOK)


@dataclass(slots=True)
class Ledger(ABC):
    """One user of a system that may be away at any moment, and everything it was answered."""

    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    user_id: str = ""
    arguments: Sequence[str] = ()
    """Arguments of every script."""

    @property
    @abstractmethod
    def asking(self) -> Client:
        """Return the client that asks one thing at a time."""

    @abstractmethod
    async def client(self) -> Client:
        """Return a new client of the same user."""

    async def ask(self, path: str) -> Any:
        """Return what a resource shows."""
        return await self.asking.get(path)

    async def submit(self, script: str, *, lang: str = "python", timeout_seconds: int = 60) -> str:
        """Submit a script and note what was answered."""
        execution_id = await self.asking.submit(
            script, lang=lang, timeout_seconds=timeout_seconds, args=self.arguments
        )
        self.note(script, 200, execution_id)
        return execution_id

    def note(
        self,
        script: str,
        status: int | None,
        execution_id: str | None,
        key: str | None = None,
        *,
        user_id: str = "",
    ) -> None:
        """Enter a submit into the ledger: of the user, or of another who is named."""
        self.calls.append(
            Call(
                at=now(),
                operation="submit",
                user_id=user_id or self.user_id,
                status=status,
                execution_id=execution_id,
                script=script,
                key=key,
                fingerprint=hashlib.sha256(script.encode()).hexdigest(),
            )
        )

    async def executions(self) -> dict[str, dict[str, Any]]:
        """Return all executions by id, newest first."""
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            page = await self.ask(f"/user/executions?limit=200{cursor}")
            found |= {one["execution_id"]: one for one in page["executions"]}
            if not page["has_more"]:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def until_status(self, ids: Collection[str], *statuses: str, seconds: float) -> None:
        """Wait until each of some executions is in one of some states."""
        seen: dict[str, str] = {}

        async def reached() -> bool:
            known = await self.executions()
            seen.update({one: known[one]["status"] for one in ids if one in known})
            return all(seen.get(one) in statuses for one in ids)

        try:
            await until(reached, seconds, f"all {len(ids)} are {' or '.join(statuses)}")
        except AssertionError as error:
            error.add_note(str({one: seen.get(one) for one in ids}))
            raise

    async def until_at_rest(self, *, seconds: float = 30) -> dict[str, dict[str, Any]]:
        """Wait until all is over, cleaned up and read by everybody; return all executions."""

        async def is_quiet() -> bool:
            queue = await self.ask("/admin/executions/queue")
            if queue["queue_depth"] or queue["active_count"]:
                return False
            known = await self.executions()
            if any(one["status"] not in TERMINAL for one in known.values()):
                return False
            scaling = await self.ask("/admin/scaling")
            if any(sum(function["lag"].values()) for function in scaling["functions"]):
                return False
            return all([await self._saga_is_over(one) for one in known])

        await until(is_quiet, seconds, "everything is at rest")
        return await self.executions()

    async def _saga_is_over(self, execution_id: str) -> bool:
        events = await self.ask(f"/executions/{execution_id}/events?limit=200")
        ends = {"saga.completed", "saga.failed", "saga.cancelled"}
        return any(event["event_type"] in ends for event in events)

    async def follow(self, execution_id: str) -> Stream:
        """Follow an execution to the end that the server makes, and note every frame."""
        client = await self.client()
        frames = []
        path = f"/api/v1/events/executions/{execution_id}?include=execution,pod,result,output,saga"
        try:
            async for message in client.streams.stream(path):
                event_type = message.json()["event_type"]
                # The last word about the stream repeats the number of the last event.
                number = message.id if message.name == "message" else None
                frames.append(Frame(number, message.name, event_type))
        finally:
            client.close()
        stream = Stream("follower", execution_id, tuple(frames), complete=True)
        self.streams.append(stream)
        return stream


def ends_of(known: dict[str, dict[str, Any]], ids: Sequence[str]) -> set[tuple[str, str | None]]:
    """Return the different ends that some executions came to."""
    return {(known[one]["status"], known[one]["error_type"]) for one in ids}


async def submit_surely(
    world: "Ledger", script: str, key: str, *, lang: str, is_up: asyncio.Event
) -> str | None:
    """Send one request, under one key, as often as it takes; note every answer.

    Returns None where the key is still leased to a process that is dead.
    """
    while True:
        await is_up.wait()
        try:
            client = await world.client()
        except (OSError, AssertionError):
            await pause(_LOOK)
            continue
        try:
            execution_id = await client.submit(script, lang=lang, key=key, args=world.arguments)
        except ConnectionError:
            world.note(script, None, None, key)
            await pause(_LOOK)
        except Refused as refused:
            # What stands before the server cannot know what became of a request.
            is_known = refused.status not in PASSING - {503}
            world.note(script, refused.status if is_known else None, None, key)
            if refused.status == 409:
                return None
            if refused.status not in PASSING:
                raise
            await pause(_LOOK)
        else:
            world.note(script, 200, execution_id, key)
            return execution_id
        finally:
            client.close()
