"""What every engine can do, and how it says that it cannot."""

import sys
from pathlib import Path
from typing import Protocol


class EngineError(Exception):
    """An engine cannot do what was asked; the message is a sentence with its remedy."""


class Engine(Protocol):
    """One of the systems that the project runs on, as the tests start it on this machine.

    `build`, `start` and `stop` may be repeated in any state, also in what an interrupted or
    killed predecessor left behind.
    """

    @property
    def name(self) -> str:
        """Return the name of the engine, of its log and of its folder in the state."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the engines that must run before this one."""

    def lacks(self) -> list[str]:
        """Return what this machine is missing, each one line with its remedy."""

    def build(self) -> None:
        """Fill the cache; what is there already is not made again.

        Raises:
            EngineError: Something could not be built.
        """

    def start(self) -> None:
        """Start it, or find it running; return when it answers.

        Raises:
            EngineError: It did not start, or did not answer in time.
        """

    def check(self) -> str:
        """Return one line about what answers.

        Raises:
            EngineError: Nothing does.
        """

    def stop(self) -> None:
        """End it; no process, mount or interface of it is left.

        Raises:
            EngineError: Something of it could not be ended.
        """

    def logs(self) -> list[Path]:
        """Return the files with what it says, also after it was stopped; some may not be there."""

    def environment(self) -> dict[str, str]:
        """Return the settings by which its clients reach it, complete once it has been started."""


def say(line: str) -> None:
    """Tell whoever is waiting what is going on."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
