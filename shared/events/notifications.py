"""What users are told."""

from datetime import datetime
from typing import ClassVar

from shared.events.event import Payload
from shared.events.topics import Topic


class _Notification(Payload):
    """Which notification, whose."""

    TOPIC: ClassVar[Topic] = Topic.USER_EVENTS

    notification_id: str
    user_id: str


class NotificationCreated(_Notification):
    """A user is to be told something."""

    TYPE: ClassVar[str] = "notification.created"

    subject: str
    body: str
    severity: str
    tags: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


class NotificationDelivered(_Notification):
    """A channel took it."""

    TYPE: ClassVar[str] = "notification.delivered"

    channel: str
    delivered_at: datetime
    attempts: int


class NotificationFailed(_Notification):
    """A channel did not take it."""

    TYPE: ClassVar[str] = "notification.failed"

    channel: str
    error_code: str
    error: str
    retry_count: int
