"""What must be in an engine before work begins: found or made, said one by one."""

from dataclasses import dataclass
from typing import Literal

State = Literal["made", "same", "changed", "differs"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One topic, group or index, and what became of it."""

    subject: str
    """For example `topic execution_events`."""
    state: State
    """`differs`: it is not as it should be, and changing it is not ours to do."""
    seen: str = ""
    """What it is like, with the numbers."""
    remedy: str = ""
    """What an operator can do where it differs, or where it is right and still worth a look."""
