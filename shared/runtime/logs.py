"""Log lines as JSON on one line each: for machines, and without what must not be in a log."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from shared.domain.times import rfc3339

_EXTRAS = ("function", "trace_id", "span_id", "correlation_id", "execution_id", "user_id")
_SECRETS = (
    (re.compile(r"\bi8s_[\w-]{4,}"), "i8s_***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"(?i)\b(bearer)\s+[^\s\"']+"), r"\1 ***"),
    (re.compile(r"(://[^/\s:@]*:)[^@\s/]+@"), r"\1***@"),
    (
        re.compile(
            r"(?i)([\"']?\b[\w-]*(?:password|secret|token|cookie|authorization|api[_-]?key)\b"
            r"[\"']?\s*[=:]\s*)[\"']?[^\s,;\"'}]+[\"']?"
        ),
        r"\1***",
    ),
)


def redacted(text: str) -> str:
    """Return a text without keys, tokens and passwords."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, function, message, and the ids that are known."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= {name: getattr(record, name) for name in _EXTRAS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to(stream: TextIO | None = None, *, level: str, formatter: logging.Formatter) -> None:
    """Send the log of this process to one stream, and nothing of other libraries below warnings."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # It reports each attempt to reach a broker, ten a second; its adapter says it in a sentence.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for ours in ("functions", "gateway", "shared"):
        logging.getLogger(ours).setLevel(level)
