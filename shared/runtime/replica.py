"""One replica of a function inside this process, from its start to its last commit."""

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Any, Protocol

from shared.domain.errors import TemporaryError
from shared.runtime.functions import Function, load
from shared.runtime.ports import Ports
from shared.runtime.pump import Pump

_LOG = logging.getLogger(__name__)
_RESTART = timedelta(seconds=1)


class Running(Protocol):
    """Whatever a replica runs."""

    async def run(self) -> None:
        """Run until stopped."""

    def stop(self) -> None:
        """Ask it to end."""


class _Loop:
    """A function that is woken by a clock or a cluster: it runs until it is cancelled."""

    def __init__(self, function: Function, needs: Any) -> None:
        self._function = function
        self._needs = needs
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        if self._function.run is None:
            raise TypeError(f"{self._function.spec.slug} has nothing to run")
        running = asyncio.ensure_future(self._function.run(self._needs))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            stopping.cancel()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def stop(self) -> None:
        self._stopping.set()


class Replica:
    """A replica that is kept running: a fault of its loop is logged, and it starts again."""

    def __init__(self, slug: str, ports: Ports) -> None:
        """Load the function, if this is its first replica in this process, and start it."""
        self._function = load(slug)
        self._ports = ports
        self._needs = ports.fill(self._function.spec.needs)
        self._running: Running = self._new()
        self._stopped = False
        self._task = asyncio.create_task(self._keep_running(), name=f"replica of {slug}")
        self._upkeep = asyncio.create_task(self._reconcile(), name=f"upkeep of {slug}")

    def _new(self) -> Running:
        if self._function.spec.wakes == "events":
            return Pump(self._function, self._needs, self._ports.log, self._ports.clock)
        return _Loop(self._function, self._needs)

    async def _keep_running(self) -> None:
        while not self._stopped:
            try:
                await self._running.run()
            except Exception:  # noqa: BLE001 - whatever it was, another try may succeed
                _LOG.exception("a replica of %s died and starts again", self._function.spec.slug)
                await self._ports.clock.sleep(_RESTART)
                self._running = self._new()

    async def _reconcile(self) -> None:
        every = self._function.spec.reconcile_every
        if every is None or self._function.reconcile is None:
            return
        while True:
            try:
                await self._function.reconcile(self._needs)
            except TemporaryError as error:
                _LOG.warning("%s could not reconcile: %s", self._function.spec.slug, error)
                await self._ports.clock.sleep(error.retry_after)
                continue
            except Exception:  # noqa: BLE001 - its replica handles events all the same
                _LOG.exception("%s has a bug in its reconcile", self._function.spec.slug)
            await self._ports.clock.sleep(every)

    async def stop(self) -> None:
        """Take no more work, finish what was begun, leave the group."""
        self._stopped = True
        self._upkeep.cancel()
        self._running.stop()
        await self._task
        with contextlib.suppress(asyncio.CancelledError):
            await self._upkeep

    async def kill(self) -> None:
        """Drop everything at once, as the death of a process would."""
        self._stopped = True
        for task in (self._task, self._upkeep):
            task.cancel()
        for task in (self._task, self._upkeep):
            with contextlib.suppress(asyncio.CancelledError):
                await task
