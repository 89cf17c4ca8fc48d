"""How often and how late a dead letter is tried again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.events.topics import Topic


@dataclass(frozen=True, slots=True)
class Policy:
    """When what failed is tried again: exponential, after some immediate tries where it says so."""

    attempts: int = 5
    base: timedelta = timedelta(seconds=60)
    cap: timedelta = timedelta(hours=1)
    factor: float = 2
    immediate: int = 0


_QUICK = Policy(base=timedelta(seconds=30), cap=timedelta(seconds=300))
_OTHERS = Policy(attempts=4, cap=timedelta(seconds=1800), factor=2.5)
POLICIES = {
    Topic.EXECUTION_EVENTS: _QUICK,
    Topic.EXECUTION_TASKS: _QUICK,
    Topic.SAGA_COMMANDS: _QUICK,
    Topic.POD_EVENTS: Policy(attempts=3, cap=timedelta(seconds=600), factor=3),
    Topic.EXECUTION_RESULTS: Policy(attempts=8, immediate=3),
    Topic.USER_EVENTS: _OTHERS,
    Topic.EXECUTION_SUBMISSIONS: _OTHERS,
    Topic.REPLAY_COMMANDS: _OTHERS,
    Topic.TIMERS: _OTHERS,
}
_JITTER = 0.1
_WAITING = frozenset({"pending", "scheduled"})
_ADDED = ("dlq", "knativeerror")


def policy_of(topic: str) -> Policy:
    """Return the policy of a topic, the default one for topics without their own."""
    return POLICIES.get(Topic(topic), Policy()) if topic in set(Topic) else Policy()


def delay(policy: Policy, attempt: int, chance: float) -> timedelta | None:
    """Return the wait before retry number `attempt` (1 = the first), or None when they are used up.

    `chance` in 0..1 spreads the wait by 10 % to both sides, so that what failed together does not
    come back together.
    """
    if attempt > policy.attempts:
        return None
    if attempt <= policy.immediate:
        return timedelta(0)
    wait = policy.base * policy.factor ** (attempt - policy.immediate - 1)
    return min(wait * (1 - _JITTER + 2 * _JITTER * chance), policy.cap)


def is_due(letter: Mapping[str, Any], due_at: datetime) -> bool:
    """Say whether a timer that was due at this instant is the one that the letter waits for.

    An earlier one, delivered again, is not: it was acted on, and the letter failed again since.
    """
    planned = letter.get("next_retry_at")
    return letter["status"] in _WAITING and (planned is None or planned <= due_at)


def is_original(header: str) -> bool:
    """Say whether a header was the event's own, not added when it became a dead letter."""
    return not header.startswith(_ADDED)
