"""The embedded profile: the engines of one machine behind the ports."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.adapters.redis.server import BundledRedis
from shared.adapters.redis.signals import RedisSignals
from shared.adapters.sandbox import groups
from shared.adapters.sandbox.cluster import SandboxCluster
from shared.adapters.sqlite.documents import SqliteDocuments
from shared.adapters.sqlite.event_log import SqliteEventLog
from shared.adapters.sqlite.store import SqliteStore
from shared.adapters.system.clock import SystemClock
from shared.adapters.system.ids import SystemIds
from shared.domain.errors import AlreadyExists, StartupError, TemporaryError
from shared.domain.execution_settings import ExecutionSettings
from shared.domain.runtimes import Offer
from shared.ports.clock import Clock
from shared.ports.cluster import Cluster
from shared.ports.collections import COLLECTIONS
from shared.ports.documents import Documents
from shared.ports.ids import Ids
from shared.ports.signals import Signals
from shared.runtime.outbox import Collection, Outbox
from shared.runtime.ports import Ports
from shared.runtime.settings import Settings

_LAST_WORDS = timedelta(seconds=5)
"""How long a process that stops waits for the log to take its last events."""
_SANDBOX_SLOTS_SPARE = 16
"""Sandboxes beyond the slots of the pool: ended ones hold theirs until they are cleaned up."""


class DocumentsLedger:
    """The sandbox's list of pods, kept among the documents, on the disk before anything runs."""

    def __init__(self, pods: Documents) -> None:
        """Keep the list in a collection."""
        self._pods = pods

    async def record(self, name: str, entry: dict[str, Any]) -> bool:
        """Enter a pod for good; say whether it is new."""
        try:
            await self._pods.insert(name, entry)
        except AlreadyExists:
            return False
        await self._pods.flush()
        return True

    async def forget(self, name: str) -> None:
        """Strike a pod off the list."""
        await self._pods.delete(name)

    async def all(self) -> dict[str, dict[str, Any]]:
        """Return every pod on the list."""
        return {pod["_id"]: pod for pod in await self._pods.find()}


@dataclass(slots=True)
class Embedded:
    """The engines of one machine, and the ports over them."""

    ports: Ports
    store: SqliteStore
    log: SqliteEventLog
    redis: BundledRedis
    signals: RedisSignals
    sandbox: SandboxCluster
    lock: "DataLock"

    async def readiness(self) -> Mapping[str, str]:
        """Return how each engine is: ok, degraded or down."""
        return {
            "event_log": await _state(self.store.committed()),
            "documents": await _state(self.store.committed()),
            "signals": await _state(self.signals.ping(), otherwise="degraded"),
            "cluster": await _state(self.sandbox.list()),
        }

    async def wait(self, leaving: asyncio.Event) -> bool:
        """Return at once: they were started before they were opened."""
        return not leaving.is_set()

    async def prove_isolation(self) -> None:
        """Return at once: the sandbox proved itself when it started."""

    async def close(self) -> None:
        """Stop the engines, in the order in which nothing is lost; each, whatever another does."""
        async with AsyncExitStack() as engines:
            engines.callback(self.lock.release)
            engines.push_async_callback(self.store.close)
            engines.push_async_callback(self.redis.stop)
            engines.push_async_callback(self.signals.close)
            engines.push_async_callback(self._publish_the_rest)
            engines.push_async_callback(self.sandbox.stop)

    async def _publish_the_rest(self) -> None:
        """Empty the outboxes; with a log that is away, what they hold waits for the next start."""
        try:
            async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                await self.ports.outbox.drain()
        except TimeoutError:
            self.ports.outbox.abandon()


async def _state(call: Awaitable[object], otherwise: str = "down") -> str:
    try:
        await call
    except TemporaryError:
        return otherwise
    return "ok"


class DataLock:
    """One process at a time owns a data directory; the kernel frees it when that process dies."""

    def __init__(self, data_dir: Path) -> None:
        """Take the directory, making it if it is not there.

        Raises:
            StartupError: It cannot be written, or another process has it.
        """
        remedy = "Choose another INTEGR8S_DATA_DIR, or make it writable for you."
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"The data directory {data_dir} cannot be used: {error.strerror}."
            raise StartupError(message, remedy=remedy) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            message = f"Another integr8s runs on the data directory {data_dir}."
            remedy = "Stop it with `integr8s down`, or choose another INTEGR8S_DATA_DIR."
            raise StartupError(message, remedy=remedy) from error

    def release(self) -> None:
        """Give the directory up."""
        os.close(self._handle)


def remove_groups(data_dir: Path) -> None:
    """Remove the control groups of a service that was killed, as far as they can be found.

    Whoever has started on the directory since has removed them, and has groups of its own there.
    """
    try:
        lock = DataLock(data_dir)
    except StartupError:
        return
    try:
        groups.remove_all(groups.name_of(data_dir))
    finally:
        lock.release()


def collections(store: SqliteStore, log: SqliteEventLog, clock: Clock) -> dict[str, Collection]:
    """Return every collection on one store, beside the log that takes what they emit."""
    return {name: SqliteDocuments(store, one, clock, log) for name, one in COLLECTIONS.items()}


def ports_over(
    *,
    store: SqliteStore,
    log: SqliteEventLog,
    signals: Signals,
    cluster: Cluster,
    clock: Clock,
    ids: Ids,
    offer: Offer,
    settings: ExecutionSettings,
) -> Ports:
    """Return the ports over a store, with the outbox between documents and log."""
    kept = collections(store, log, clock)
    outbox = Outbox(log, clock, kept.__getitem__)
    for name in kept:
        outbox.documents(name)
    return Ports(
        log=log,
        outbox=outbox,
        signals=signals,
        cluster=cluster,
        clock=clock,
        ids=ids,
        offer=offer,
        settings=settings,
    )


@dataclass(slots=True)
class Stored:
    """What one database file holds, without any engine that would act on it: for `doctor`."""

    store: SqliteStore
    collections: dict[str, Collection]
    log: SqliteEventLog

    @classmethod
    def open(cls, path: Path) -> "Stored":
        """Open a file.

        Raises:
            StartupError: It cannot be opened, or was written by a newer version.
        """
        clock, store = SystemClock(), SqliteStore(path)
        log = SqliteEventLog(store, clock)
        return cls(store, collections(store, log, clock), log)

    async def close(self) -> None:
        """Close the file."""
        await self.store.close()


async def open_embedded(settings: Settings) -> Embedded:
    """Start the engines of one machine.

    Raises:
        StartupError: Something is missing, in use or too new; nothing was changed.
    """
    lock = DataLock(settings.data_dir)
    try:
        return await _open(settings, lock)
    except BaseException:
        lock.release()
        raise


async def _open(settings: Settings, lock: DataLock) -> Embedded:
    clock, ids = SystemClock(), SystemIds()
    store = SqliteStore(settings.data_dir / "integr8s.db")
    log = SqliteEventLog(store, clock)
    pods = SqliteDocuments(store, COLLECTIONS["sandbox_pods"], clock)
    sandbox = SandboxCluster(
        folder=settings.data_dir,
        ledger=DocumentsLedger(pods),
        clock=clock,
        ids=ids,
        slots=settings.max_concurrent_executions + _SANDBOX_SLOTS_SPARE,
        base_uid=_base_uid(settings.data_dir),
        allow_weak_limits=settings.allow_weak_limits,
    )
    redis = BundledRedis(settings.data_dir)
    starts = await asyncio.gather(sandbox.start(), redis.start(), return_exceptions=True)
    failures = [failure for failure in starts if isinstance(failure, BaseException)]
    if failures:
        if not isinstance(starts[0], BaseException):
            await sandbox.stop()
        if not isinstance(starts[1], BaseException):
            await redis.stop()
        await store.close()
        raise failures[0]
    signals = RedisSignals.connect(redis.socket, clock=clock)
    ports = ports_over(
        store=store,
        log=log,
        signals=signals,
        cluster=sandbox,
        clock=clock,
        ids=ids,
        offer=Offer(sandbox.offered.versions()),
        settings=settings.execution,
    )
    return Embedded(ports, store, log, redis, signals, sandbox, lock)


def _base_uid(data_dir: Path) -> int:
    """Return where the uids of this directory's sandboxes begin, so that two systems differ.

    The kernel counts processes, timers and keys per uid.
    """
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).digest()
    return 100_000 + int.from_bytes(digest[:2], "big") % 4096 * 128
