"""An installation for the time of the benchmark, in one profile or another."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from tests.cluster.installation import Installation, install
from tests.cluster.installing import NAMESPACE, OVERLAY, uninstall
from tests.cluster.kubectl import Kubectl
from tests.cluster.reset import reset

WARM: Final = ("coordinate", "launch-pod", "monitor-pods", "persist-result", "relay-events")
"""What the profile `warm` keeps up."""
_WARM: Final = Path(__file__).parent / "overlay" / "warm"
_READY_SECONDS: Final = 120
_T = TypeVar("_T")


@asynccontextmanager
async def installed(command: Kubectl) -> AsyncIterator[Installation]:
    """Install everything anew and sign a user in; at the end nothing of it is left."""
    installation: Installation | None = None
    try:
        await to_its_end(lambda: uninstall(command))
        installation = await to_its_end(lambda: install(os.environ))  # noqa: TID251 - what the engines were started with
        await installation.sign_in()
        yield installation
    finally:
        if installation is not None:
            installation.hang_up()
            installation.observer.stop()
        await to_its_end(lambda: uninstall(command))
        if installation is not None:
            await reset(installation.settings)


async def warm(world: Installation) -> None:
    """Keep a replica of each function on the way to a result up; return when they are."""
    await asyncio.to_thread(world.kubectl, "apply", "-k", str(_WARM))
    waiting = [f"deployment/{slug}" for slug in WARM]
    await asyncio.to_thread(
        world.kubectl,
        *("wait", *waiting, "-n", NAMESPACE, "--for=jsonpath={.status.readyReplicas}"),
        f"--timeout={_READY_SECONDS}s",
        seconds=_READY_SECONDS + 10,
    )


async def zero(world: Installation) -> None:
    """Let every function sleep again when it has nothing to do."""
    await asyncio.to_thread(world.kubectl, "apply", "-k", str(OVERLAY / "functions"))


async def to_its_end(work: Callable[[], _T]) -> _T:
    """Do something in a thread; who is cancelled meanwhile goes on only when it has ended.

    What it made halfway could not be removed while it goes on making more.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # looked at, so that nobody complains that it never was
        raise
