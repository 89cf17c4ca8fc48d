"""Instants as SQLite keeps them: whole milliseconds since 1970."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(instant: datetime) -> int:
    """Return an aware instant in milliseconds, cut, not rounded."""
    return (instant - _EPOCH) // _MILLISECOND
