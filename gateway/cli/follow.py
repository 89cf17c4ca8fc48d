"""Following an execution: its phases to one side, its output byte for byte to the other."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import BinaryIO

from gateway.cli.errors import Unreachable
from gateway.cli.phases import Phases
from gateway.cli.sse import Message
from gateway.cli.values import JsonObject
from shared.domain.results import TRUNCATION_MARK

_PHASE_OF = {
    "execution.requested": "queued",
    "pod.created": "launching",
    "execution.started": "running",
    "result_stored": "stored",
}


class Copy:
    """One output stream of the script, copied from its own offset on: nothing twice, no gap."""

    def __init__(self, target: BinaryIO | None) -> None:
        """Copy to a target; to nowhere where there is none."""
        self._target = target
        self._printed = 0

    def chunk(self, offset: int, data: bytes) -> bool:
        """Take a live chunk; say whether anything of it was new.

        A chunk beyond a gap is left: the stored result has all of it, in order.
        """
        if offset > self._printed:
            return False
        return self._write(data[self._printed - offset :])

    def rest(self, data: bytes) -> bool:
        """Take the whole stream, of which the end may be missing so far."""
        return self._write(data[self._printed :])

    def _write(self, fresh: bytes) -> bool:
        if not fresh or self._target is None:
            return False
        self._target.write(fresh)
        self._target.flush()
        self._printed += len(fresh)
        return True


class Follower:
    """Takes the messages of one execution's stream, and shows what they tell."""

    def __init__(self, phases: Phases, *, stdout: BinaryIO | None, stderr: BinaryIO | None) -> None:
        """Show phases here and output there."""
        self._phases = phases
        self._copies = {"stdout": Copy(stdout), "stderr": Copy(stderr)}
        self._prints = stdout is not None or stderr is not None

    def follow(self, messages: Iterable[Message]) -> JsonObject | None:
        """Show everything up to the end; return the result, None where the stream had none.

        Raises:
            Unreachable: The server wants this client to stop.
        """
        result: JsonObject | None = None
        for message in messages:
            if message.name in ("replaced", "expired"):
                raise Unreachable(f"The server ended the stream: {message.name}.")
            if not message.name:
                result = self._take(json.loads(message.data)) or result
        return result

    def _take(self, event: JsonObject) -> JsonObject | None:
        kind = event["event_type"]
        if kind == "execution.output":
            self._print(event["output"])
        elif kind in ("execution.queued", "status"):
            self._wait(event)
        elif kind in _PHASE_OF:
            self._phases.reached(_PHASE_OF[kind], _instant(event))
        if kind == "result_stored":
            result: JsonObject = event["result"]
            self.show(result)
            return result
        return None

    def _wait(self, event: JsonObject) -> None:
        position = event.get("position")
        if position == 0:
            self._phases.reached("scheduled", _instant(event))
        elif position is not None:
            place = f"behind {position - 1}" if position > 1 else ""
            self._phases.reached("queued", _instant(event), place)

    def _print(self, output: JsonObject) -> None:
        data = output["data"]
        exact = base64.b64decode(data) if output["encoding"] == "base64" else data.encode()
        self._make_room(exact)
        self._copies[output["stream"]].chunk(output["offset"], exact)

    def show(self, result: JsonObject) -> None:
        """Print what of a result's output was not printed yet."""
        for name, copy in self._copies.items():
            exact = bytes_of(result, name)
            self._make_room(exact)
            copy.rest(exact)

    def _make_room(self, data: bytes) -> None:
        if data and self._prints:
            self._phases.make_room()


def bytes_of(result: Mapping[str, object], name: str) -> bytes:
    """Return the bytes of an output stream as they were stored, without the mark of a cut."""
    exact = result.get(f"{name}_base64")
    if isinstance(exact, str):
        return base64.b64decode(exact)
    text = str(result.get(name) or "")
    if result.get(f"{name}_truncated"):
        text = text.removesuffix(TRUNCATION_MARK)
    return text.encode()


def _instant(event: JsonObject) -> datetime:
    return datetime.fromisoformat(event["timestamp"])
