"""How the log of a command looks: lines for a person, or JSON for a collector."""

import logging

from shared.runtime.logs import JsonLines, log_to
from shared.runtime.settings import Settings


class HumanLines(logging.Formatter):
    """Time, what is worth a second look, and the message."""

    def __init__(self) -> None:
        """Show seconds."""
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            return text.replace(" ", f" {record.levelname.lower()}: ", 1)
        return text


def log_for(settings: Settings, *, json_logs: bool) -> None:
    """Log from here on."""
    log_to(level=settings.log_level, formatter=JsonLines() if json_logs else HumanLines())
