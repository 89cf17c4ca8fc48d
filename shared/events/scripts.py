"""Saved scripts."""

from typing import ClassVar

from shared.events.event import Payload
from shared.events.topics import Topic


class _Script(Payload):
    """Which script, whose; never its text."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    script_id: str
    user_id: str
    name: str
    lang: str
    lang_version: str
    size_bytes: int


class ScriptSaved(_Script):
    """A script was saved."""

    TYPE: ClassVar[str] = "script.saved"


class ScriptUpdated(_Script):
    """A saved script was changed."""

    TYPE: ClassVar[str] = "script.updated"


class ScriptDeleted(_Script):
    """A saved script was removed."""

    TYPE: ClassVar[str] = "script.deleted"
