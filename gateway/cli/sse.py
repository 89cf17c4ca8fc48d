"""Server-Sent Events, from bytes to messages."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream."""

    name: str
    """The event's name; empty for plain messages."""
    data: str
    id: str | None
    """The last id that was set, by this message or an earlier one."""


@dataclass(slots=True)
class Parser:
    """Takes bytes in pieces of any size and gives back the messages that are complete."""

    last_id: str | None = None
    """Of the last complete message: one that broke off has to come again."""
    _id: str | None = None
    _rest: bytes = b""
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, piece: bytes) -> list[Message]:
        """Return the messages that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = (self._line(line.removesuffix(b"\r").decode(errors="replace")) for line in lines)
        return [message for message in found if message is not None]

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Message | None:
        data, self._data = self._data, []
        name, self._name = self._name, ""
        self.last_id, self._id = self._id or self.last_id, None
        return Message(name, "\n".join(data), self.last_id) if data else None
