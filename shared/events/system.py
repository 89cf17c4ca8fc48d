"""What people should look at."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events.event import Payload
from shared.events.topics import Topic


class Audience(BaseModel):
    """Who is to be told."""

    model_config = ConfigDict(frozen=True)

    user_ids: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    active_days: int | None = None


class SystemAlert(Payload):
    """Something needs a person's attention."""

    TYPE: ClassVar[str] = "system.alert"
    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    alert: str
    severity: Literal["low", "medium", "high", "urgent"]
    summary: str
    body: str | None = None
    tags: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict)
    audience: Audience = Audience(roles=("admin",))
    scheduled_for: datetime | None = None
