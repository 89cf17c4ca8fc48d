"""Submitting and following, with everything a person at a terminal may do meanwhile."""

import contextlib
import secrets
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from gateway.cli import launch
from gateway.cli.client import Client
from gateway.cli.environment import Place, find
from gateway.cli.errors import ApiRefusal, Failure, NotRunning, Unreachable
from gateway.cli.follow import Follower
from gateway.cli.phases import Lines, LiveLine, Phases, Silence
from gateway.cli.scripts import Wish, body_of
from gateway.cli.tables import show_json
from gateway.cli.values import JsonObject
from gateway.cli.verdict import (
    PLATFORM_FAILURE,
    REFUSED,
    exit_code_of,
    sentence_of,
)

INTERRUPTED = 130
_SECOND_THOUGHT = timedelta(seconds=1.5)
"""How long after a first Ctrl-C a second one still means: cancel it."""
_TERMINAL = frozenset({"completed", "failed", "timeout", "cancelled", "error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How an execution is followed."""

    json: bool = False
    quiet: bool = False
    private: bool = False
    """Whether the system ends with this command, so that nothing can be come back to."""


def run(wish: Wish, manner: Manner, *, key: str | None, detach: bool, ephemeral: bool) -> int:
    """Submit a script and follow it to its end; return its exit code, or what stands for it.

    Raises:
        Failure: It was called wrongly, refused, or there is no system to run it.
    """
    body = body_of(wish)
    with _place(ephemeral=ephemeral) as (place, is_private), Client(place) as client:
        manner = Manner(json=manner.json, quiet=manner.quiet, private=is_private)
        answer = _submit(client, body, key or secrets.token_hex(16))
        execution_id = str(answer["execution_id"])
        if detach:
            if is_private:
                raise Failure(
                    "A private system ends with this command; --detach needs one that stays."
                )
            _show_accepted(answer, execution_id, json=manner.json)
            return 0
        return follow(client, execution_id, manner)


@contextlib.contextmanager
def _place(*, ephemeral: bool) -> Iterator[tuple[Place, bool]]:
    """Yield the system to use, and whether it is private to this command."""
    try:
        place = find()
    except NotRunning as error:
        if not ephemeral:
            raise _with_exit_code(error) from error
        place = None
    if place is not None:
        yield place, False
        return
    with launch.private() as ours:
        yield ours, True


def _with_exit_code(error: Failure) -> Failure:
    error.exit_code = PLATFORM_FAILURE
    return error


def _submit(client: Client, body: JsonObject, key: str) -> JsonObject:
    try:
        return client.post("/execute", body, key=key)
    except ApiRefusal as refusal:
        refusal.exit_code = PLATFORM_FAILURE if refusal.is_fault else REFUSED
        raise
    except Failure as error:
        raise _with_exit_code(error) from error


def _show_accepted(answer: JsonObject, execution_id: str, *, json: bool) -> None:
    if json:
        show_json(answer)
    else:
        sys.stdout.write(execution_id + "\n")


def follow(client: Client, execution_id: str, manner: Manner) -> int:
    """Follow an execution to its end; return its exit code.

    Ctrl-C once lets go of it, twice cancels it.

    Raises:
        Failure: The stream was lost for good.
    """
    phases = _phases(quiet=manner.quiet)
    phases.note(f"execution {execution_id}")
    # With --json standard output holds the one object; the script's output is part of it.
    follower = Follower(
        phases,
        stdout=None if manner.json else sys.stdout.buffer,
        stderr=None if manner.json else sys.stderr.buffer,
    )
    try:
        result = _to_the_end(client, execution_id, follower, phases)
    except KeyboardInterrupt:
        if manner.private:
            phases.note("interrupted: the script ends with the private system")
            return INTERRUPTED
        if not _wants_cancel(phases, execution_id):
            return INTERRUPTED
        result = _cancel(client, execution_id, follower, phases)
    code = exit_code_of(result)
    phases.finish(sentence_of(result), good=code == 0)
    if manner.json:
        show_json(result)
    return code


def _phases(*, quiet: bool) -> Phases:
    if quiet:
        return Silence()
    if not sys.stderr.isatty():
        return Lines(sys.stderr)
    from gateway.cli.environment import wants_colour

    return LiveLine(sys.stderr, colour=wants_colour())


def _to_the_end(
    client: Client, execution_id: str, follower: Follower, phases: Phases
) -> JsonObject:
    def lost() -> None:
        phases.note("the stream broke off; going on where it was as soon as there is an answer")

    try:
        result = follower.follow(client.watch(execution_id, on_lost=lost))
        if result is None:
            result = client.get(f"/executions/{execution_id}/result")
            follower.show(result)
    except (NotRunning, Unreachable) as error:
        remedy = f"Come back to it with: integr8s logs -f {execution_id}"
        raise Unreachable(error.message, remedy=remedy, exit_code=PLATFORM_FAILURE) from error
    if result["status"] not in _TERMINAL:
        raise Unreachable(
            f"The stream ended and the execution is still {result['status']}.",
            remedy=f"Come back to it with: integr8s logs -f {execution_id}",
            exit_code=PLATFORM_FAILURE,
        )
    return result


def _wants_cancel(phases: Phases, execution_id: str) -> bool:
    """Say how to come back, and wait a moment for a second Ctrl-C."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        phases.make_room()
        # Whoever asked for quiet has asked a question by now.
        sys.stderr.write("detached: it runs on. Press Ctrl-C again now to cancel it.\n")
        sys.stderr.write(f"come back with: integr8s logs -f {execution_id}\n")
        sys.stderr.flush()
        return signal.sigtimedwait({signal.SIGINT}, _SECOND_THOUGHT.total_seconds()) is not None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _cancel(client: Client, execution_id: str, follower: Follower, phases: Phases) -> JsonObject:
    """Cancel and see it end. A cancel that comes too late leaves the end that it had."""
    phases.note("cancelling")
    client.close()  # the interrupt may have cut a request in two
    with contextlib.suppress(ApiRefusal):
        client.post(f"/executions/{execution_id}/cancel", {"reason": "Ctrl-C"})
    return _to_the_end(client, execution_id, follower, phases)
