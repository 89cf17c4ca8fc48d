"""Changes of settings, of a user or of the whole system."""

from datetime import datetime
from typing import Any, ClassVar

from shared.events.event import Payload
from shared.events.topics import Topic


class _UserSettings(Payload):
    """What changed, from what to what."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    user_id: str
    version: int
    changed_fields: tuple[str, ...]
    old: dict[str, Any]
    new: dict[str, Any]
    reason: str | None = None


class SettingsUpdated(_UserSettings):
    """A user changed settings."""

    TYPE: ClassVar[str] = "settings.updated"


class SettingsRestored(_UserSettings):
    """A user went back to earlier settings."""

    TYPE: ClassVar[str] = "settings.restored"

    restored_to: datetime


class SystemSettingsUpdated(Payload):
    """An administrator changed the system's settings; every process reads them again."""

    TYPE: ClassVar[str] = "settings.system_updated"
    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    changed_fields: tuple[str, ...]
    old: dict[str, Any]
    new: dict[str, Any]
    actor_id: str
    reset: bool = False
