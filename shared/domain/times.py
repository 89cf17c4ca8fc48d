"""How instants are written: RFC 3339, UTC, to the millisecond, ending in `Z`."""

from datetime import UTC, datetime


def rfc3339(instant: datetime) -> str:
    """Return an aware instant as text, e.g. `2026-11-21T09:30:00.125Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_milliseconds(instant: datetime) -> datetime:
    """Return the instant as every store keeps it: UTC, whole milliseconds, cut not rounded."""
    instant = instant.astimezone(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
