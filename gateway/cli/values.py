"""What comes out of the API: JSON, as Python has it."""

from typing import Any

JsonObject = dict[str, Any]
