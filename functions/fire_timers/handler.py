"""Fire what is due, and sweep the outboxes."""

from datetime import timedelta
from typing import NamedTuple

from functions.fire_timers import rules
from shared.domain.errors import TemporaryError
from shared.ports.clock import Clock
from shared.ports.documents import Documents
from shared.ports.publisher import Outboxes, Publisher

SOURCE = "/integr8s/fire-timers"
_LEASE = timedelta(seconds=30)
_TICK = timedelta(seconds=1)
_PAGE = 100


class Needs(NamedTuple):
    """The ports of this function."""

    timers: Documents
    outboxes: Outboxes
    publisher: Publisher
    clock: Clock


async def run(needs: Needs) -> None:
    """Look for due timers and leftovers every second while awake, until cancelled."""
    while True:
        try:
            fired = await fire_due(needs)
            swept = await needs.outboxes.sweep()
        except TemporaryError as error:
            await needs.clock.sleep(error.retry_after)
            continue
        if not fired and not swept:
            await needs.clock.sleep(_TICK)


async def fire_due(needs: Needs) -> int:
    """Publish the timers that are due, each claimed by a lease; return how many."""
    now = needs.clock.now()
    due = await needs.timers.find({"due_at": {"$lte": now}}, sort=[("due_at", 1)], limit=_PAGE)
    fired = 0
    for timer in due:
        if timer.get("lease_until") and timer["lease_until"] > now:
            continue
        claimed = await needs.timers.change(
            timer["_id"],
            when={"version": timer["version"]},
            set={"lease_until": now + _LEASE},
        )
        if claimed is None:
            continue
        await needs.publisher.publish([rules.due_event(timer, source=SOURCE, at=now)])
        # Whoever was told may have set it anew meanwhile: then it is not ours to remove.
        await needs.timers.delete(timer["_id"], when={"version": claimed["version"]})
        fired += 1
    return fired
