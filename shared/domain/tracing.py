"""W3C trace context: one trace from the first request over every hop."""

import re

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


def is_traceparent(text: str) -> bool:
    """Say whether the text is a usable `traceparent` of version 00 (W3C Trace Context, 3.2)."""
    match = _TRACEPARENT.fullmatch(text)
    return match is not None and match[1] != "0" * 32 and match[2] != "0" * 16


def new_traceparent(seed: str) -> str:
    """Begin a trace named after an id, so that logs, events and traces meet under one number."""
    digits = seed.replace("-", "").ljust(32, "0")[:32]
    return f"00-{digits}-{digits[16:]}-01"


def child_traceparent(parent: str, event_id: str) -> str:
    """Continue the trace of `parent` with a span named after the event that continues it."""
    span = event_id.replace("-", "")[-16:]
    return f"{parent[:36]}{span}{parent[52:]}"
