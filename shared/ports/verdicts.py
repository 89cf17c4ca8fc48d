"""What the evidence about an ended run means: one pure function, the same for every launcher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.domain.executions import ErrorType, Status
from shared.ports.cluster import Cause, PodEnd

NO_EXIT_CODE: Final = -1
"""Public exit code of a run that was ended by its own limit."""
_BY_SIGNAL: Final = 128
_SIGKILL: Final = 9


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of an execution in the words that users read."""

    status: Status
    error_type: ErrorType | None = None
    error_code: str | None = None
    exit_code: int | None = None
    """The script's own; 128 + n where signal n ended it, 137 where memory did, -1 at its limit."""
    error_message: str | None = None
    """One sentence with the limit that was hit; None where nothing went wrong."""


_RESOURCES: Final[Mapping[Cause, str]] = {
    Cause.OUTPUT_FLOOD: "It printed more than its output limit.",
    Cause.PROCESSES: "It reached its process limit and was ended by a signal.",
    Cause.DISK: "It used more disk than its limit.",
    Cause.EVICTED: "It was evicted because its node ran short of resources.",
}
_NEVER_LAUNCHED: Final[Mapping[Cause, str]] = {
    Cause.IMAGE_PULL: "Its image could not be pulled.",
    Cause.CONTAINER_START: "Its container could not be started.",
    Cause.START_DEADLINE: "It had not started when its time to start was over.",
}
_LOST: Final[Mapping[Cause, str]] = {
    Cause.NODE_LOST: "Its node was lost.",
    Cause.POD_LOST: "Whatever ran it died, or it was removed from outside.",
    Cause.UNKNOWN: "It ended without a report that says why.",
}


def verdict(end: PodEnd) -> Verdict:
    """Name what an ended run came to.

    The cause decides, because it was noted before anything was killed: a script that catches the
    TERM of its deadline and leaves with 0 has still run into its deadline. A code that the script
    itself left with is its own business, also 137, and never a failure of ours.
    """
    match end.cause:
        case Cause.CANCELLED:
            return Verdict(Status.CANCELLED)
        case Cause.EXIT:
            return Verdict(Status.COMPLETED, exit_code=end.exit_code)
        case Cause.OUT_OF_MEMORY:
            return _failed(
                end,
                ErrorType.RESOURCE_LIMIT,
                "It used more memory than its limit.",
                exit_code=_BY_SIGNAL + _SIGKILL,
            )
        case Cause.DEADLINE:
            return Verdict(
                Status.TIMEOUT,
                ErrorType.TIMEOUT,
                Cause.DEADLINE.value,
                NO_EXIT_CODE,
                end.message or "It ran longer than its time limit.",
            )
        case Cause.SIGNAL:
            return _failed(end, ErrorType.SCRIPT_ERROR, "It was ended by a signal.")
        case cause if cause in _RESOURCES:
            return _failed(end, ErrorType.RESOURCE_LIMIT, _RESOURCES[cause])
        case cause if cause in _NEVER_LAUNCHED:
            return Verdict(
                Status.ERROR,
                ErrorType.SYSTEM_ERROR,
                cause.value,
                error_message=end.message or _NEVER_LAUNCHED[cause],
            )
        case cause:
            return Verdict(
                Status.FAILED,
                ErrorType.SYSTEM_ERROR,
                cause.value,
                error_message=end.message or _LOST[cause],
            )


def _failed(
    end: PodEnd, error_type: ErrorType, sentence: str, *, exit_code: int | None = None
) -> Verdict:
    by_signal = None if end.signal is None else _BY_SIGNAL + end.signal
    return Verdict(
        Status.FAILED,
        error_type,
        end.cause.value,
        by_signal if exit_code is None else exit_code,
        end.message or sentence,
    )
