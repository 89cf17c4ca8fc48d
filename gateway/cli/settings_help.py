"""Every setting, from the fields of the settings themselves."""

import os
import sys
import textwrap
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shared.runtime.settings import Settings

PREFIX = "INTEGR8S_"
_IN = "    "
CLIENT = (
    ("INTEGR8S_URL", "", "Address of another system for commands to talk to."),
    ("INTEGR8S_API_KEY", "", "API key for that system."),
)
"""Variables that only commands read, and no server."""


def rows() -> list[tuple[str, str, str]]:
    """Return variable, default and meaning of every setting."""
    found = [
        (f"{PREFIX}{name.upper()}", default_of(field), _meaning(field))
        for name, field in Settings.model_fields.items()
    ]
    return [*found, *CLIENT]


def default_of(field: FieldInfo) -> str:
    """Return the default as one would write it; secrets have none."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or isinstance(value, SecretStr):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        return f"~/{value.relative_to(Path.home())}"
    return str(value)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _set_to(variable: str) -> str:
    value = os.environ.get(variable)  # noqa: TID251 - shows what the environment says
    if value is None:
        return ""
    return "(secret)" if variable in _secrets() else value


def _secrets() -> frozenset[str]:
    """Return the variables that are not shown: addresses with a password in them are among them."""
    found = {
        f"{PREFIX}{name.upper()}"
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    return frozenset({*found, "INTEGR8S_API_KEY"})


def show() -> int:
    """Print every setting; return the exit code."""
    for name, default, meaning in rows():
        chosen = _set_to(name)
        sys.stdout.write(f"{name}{f' [{default}]' if default else ''}")
        sys.stdout.write(f"  set to {chosen}\n" if chosen else "\n")
        sys.stdout.write(textwrap.fill(meaning, 76, initial_indent=_IN, subsequent_indent=_IN))
        sys.stdout.write("\n")
    return 0
