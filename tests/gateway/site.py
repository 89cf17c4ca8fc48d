"""A whole gateway in memory, with hands on the things behind it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

import orjson
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from starlette.applications import Starlette

from functions.submit.handler import Needs, Room
from gateway.app import bootstrap_admin, create_app
from gateway.ports import GatewayPorts
from gateway.settings import GatewaySettings
from shared.adapters.redis.signals import RedisSignals
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.virtual.clock import VirtualClock
from shared.adapters.virtual.ids import SeededIds
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.results import result_object
from shared.domain.runtimes import Offer
from shared.domain.times import rfc3339
from shared.events.event import Event
from shared.ports.collections import COLLECTIONS
from shared.ports.scaling import FunctionState, ScalingPoint
from tests.gateway.browser import Browser

PASSWORD = "correct horse battery"
ADMIN_PASSWORD = "staple of the admin"
SECRET = "7d1f4c0b2a9e8d3c6b5a4f3e2d1c0b9a"


class Recorder:
    """A publisher that remembers what was said."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, events: Sequence[Event]) -> None:
        """Remember."""
        self.events += events

    @property
    def types(self) -> list[str]:
        """Return the types of what was said, in order."""
        return [event.type for event in self.events]


class FixedScaling:
    """One function that was woken once."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    async def functions(self) -> Sequence[FunctionState]:
        """Return it."""
        return [
            FunctionState(
                slug="coordinate",
                replicas=1,
                min_replicas=0,
                max_replicas=6,
                lag={"execution_events": 3},
                active=True,
                last_active_at=self.at,
                sleeps_at=None,
                reason="lag 3 is above 0",
                last_cold_start=timedelta(milliseconds=12),
            )
        ]

    def history(self, slug: str, *, since: datetime) -> Sequence[ScalingPoint]:
        """Return its only change."""
        known = slug == "coordinate" and since <= self.at
        return [ScalingPoint(self.at, 1, 3, "lag 3 is above 0")] if known else []


class Site:
    """The gateway, its stores, its clock, and the relay's part played by hand."""

    def __init__(self, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.ids = SeededIds(1, self.clock)
        self.store = SqliteStore(None)
        self.redis = FakeServer()
        self.signals = RedisSignals(
            FakeRedis(server=self.redis), clock=self.clock, patience=timedelta(seconds=2)
        )
        self.publisher = Recorder()
        self.checks = dict.fromkeys(("event_log", "documents", "signals", "cluster"), "ok")
        self.settings = GatewaySettings.model_validate(
            {
                "secret_key": SECRET,
                "secure_cookies": False,
                "admin_password": ADMIN_PASSWORD,
                "password_cost": "least",
                **settings,
            }
        )
        self.ports = self._ports()
        self.app: Starlette = create_app(self.ports, self.settings)
        self._lifespan: AbstractAsyncContextManager[Any] | None = None
        self._seq: dict[str, int] = {}

    def documents(self, name: str) -> SqliteDocuments:
        """Return a collection."""
        return SqliteDocuments(self.store, COLLECTIONS[name], self.clock)

    def _ports(self) -> GatewayPorts:
        executions, keys = self.documents("executions"), self.documents("idempotency_keys")
        offer = Offer({"python": ("3.11", "3.12"), "bash": ("5.2",)})
        submit = Needs(
            executions=executions,
            idempotency_keys=keys,
            publisher=self.publisher,
            clock=self.clock,
            ids=self.ids,
            offer=offer,
            settings=ExecutionSettings(queued_per_user=5),
            room=Room(),
        )
        return GatewayPorts(
            executions=executions,
            users=self.documents("users"),
            sessions=self.documents("sessions"),
            api_keys=self.documents("api_keys"),
            idempotency_keys=keys,
            events=self.documents("events"),
            pools=self.documents("pools"),
            signals=self.signals,
            publisher=self.publisher,
            clock=self.clock,
            ids=self.ids,
            offer=offer,
            submit=submit,
            scaling=FixedScaling(self.clock.now()),
            readiness=self._readiness,
        )

    async def _readiness(self) -> Mapping[str, str]:
        return self.checks

    async def open(self) -> "Site":
        """Start, with its administrator."""
        await bootstrap_admin(self.ports, self.settings)
        self._lifespan = self.app.router.lifespan_context(self.app)
        await self._lifespan.__aenter__()
        return self

    async def close(self) -> None:
        """Stop."""
        if self._lifespan is not None:
            await self._lifespan.__aexit__(None, None, None)
        await self.signals.close()
        await self.store.close()

    def browser(self, **options: Any) -> Browser:
        """Return a client without cookies."""
        return Browser(self.app, **options)

    async def user(self, name: str = "ada", **options: Any) -> Browser:
        """Return a client that is registered and signed in."""
        browser = self.browser(**options)
        body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
        await browser.post("/api/v1/auth/register", json=body)
        await self.sign_in(browser, name)
        return browser

    async def sign_in(self, browser: Browser, name: str, password: str = PASSWORD) -> None:
        """Sign a client in."""
        form = {"username": name, "password": password}
        answer = await browser.post("/api/v1/auth/login", form=form)
        assert answer.status == 200, answer.body

    async def admin(self) -> Browser:
        """Return the administrator's client."""
        browser = self.browser()
        await self.sign_in(browser, "admin", ADMIN_PASSWORD)
        return browser

    async def submit(self, browser: Browser, **body: Any) -> str:
        """Submit a script; return the id of its execution."""
        answer = await browser.post("/api/v1/execute", json={"script": "print(1)", **body})
        assert answer.status == 200, answer.body
        execution_id: str = answer.json["execution_id"]
        return execution_id

    async def key(self, browser: Browser, *scopes: str) -> Browser:
        """Return a client that uses a fresh API key of somebody."""
        body = {"name": "robot", "scopes": list(scopes)}
        answer = await browser.post("/api/v1/api-keys", json=body)
        assert answer.status == 200, answer.body
        return self.browser(key=answer.json["key"])

    async def happened(
        self, execution_id: str, event_type: str, *, nudge: bool = True, **data: Any
    ) -> int:
        """Store an event under the next number, as the relay does, and nudge; return the number."""
        seq = self._seq[execution_id] = self._seq.get(execution_id, 0) + 1
        event_id = self.ids.new()
        event = {
            "event_id": event_id,
            "event_type": event_type,
            "event_version": "1.0",
            "execution_id": execution_id,
            "timestamp": self.clock.now(),
            "seq": seq,
            "aggregate_id": execution_id,
            "user_id": "somebody",
            "source": "/integr8s/test",
            "correlation_id": "request",
            "causation_id": None,
            "replay_id": None,
            "data": data,
            "stored_at": self.clock.now(),
        }
        await self.ports.events.insert(event_id, event)
        if nudge:
            await self.nudge(seq, event)
        return seq

    async def nudge(self, seq: int, event: Mapping[str, Any]) -> None:
        """Tell the streams."""
        told = {name: event[name] for name in ("event_id", "event_type", "execution_id", "data")}
        told["timestamp"] = rfc3339(event["timestamp"])
        message = orjson.dumps({"seq": seq, "event": told})
        await self.signals.publish(f"sse:exec:{event['execution_id']}", message)

    async def ended(
        self, execution_id: str, status: str = "completed", *, nudge: bool = True, **fields: Any
    ) -> int:
        """Store a result and say so; return the number of `result_stored`."""
        changes = {
            "status": status,
            "exit_code": 0,
            "stdout": b"hello\n",
            "stderr": b"",
            "finished_at": self.clock.now(),
            "updated_at": self.clock.now(),
            **fields,
        }
        document = await self.ports.executions.change(execution_id, set=changes)
        assert document is not None
        return await self.happened(
            execution_id,
            "result_stored",
            nudge=nudge,
            status=status,
            result=result_object(document),
        )
