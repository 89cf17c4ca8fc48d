"""The errors that cross module boundaries, by what the caller should do next.

::

    Integr8sError
    ├── PermanentError        will never succeed: dead-letter it, or answer 4xx
    │   ├── MalformedEvent    bytes that are no event of ours
    │   ├── AlreadyExists     a unique key is taken
    │   └── Refusal           a request is refused, with a code and a sentence
    ├── TemporaryError        may succeed later: retry with a bound
    │   └── EngineAway        an engine gives no answer: nobody else's work fares better
    └── StartupError          the process cannot start here; says the remedy

Anything else that is raised is a bug: few retries, then a dead letter with its traceback.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


class Integr8sError(Exception):
    """Base of all errors of ours."""


class PermanentError(Integr8sError):
    """Will never succeed, however often it is tried."""


class MalformedEvent(PermanentError):
    """The bytes at hand are no event that we understand."""


class AlreadyExists(PermanentError):
    """A unique key is taken by another document."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request: where it stands, what is wrong, and a stable type."""

    loc: tuple[str | int, ...]
    msg: str
    type: str


class Refusal(PermanentError):
    """A request that is refused and leaves nothing behind.

    `code` is one of the catalogue in `shared.domain.problems`, `detail` one sentence that a person
    can act on.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: timedelta | None = None,
        context: Mapping[str, int] | None = None,
    ) -> None:
        """Keep the machine code beside the sentence; `context` holds the limit and the value."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.context = dict(context or {})


class TemporaryError(Integr8sError):
    """May succeed later; `retry_after` is the shortest wait that makes sense."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        """Carry the wait along with the reason."""
        super().__init__(message)
        self.retry_after = retry_after


class EngineAway(TemporaryError):
    """An engine gives no answer, to this call or to any other: to be waited for, not given up."""


class StartupError(Integr8sError):
    """This process cannot start here; the message is one sentence and the remedy."""

    def __init__(self, message: str, *, remedy: str) -> None:
        """Keep what is wrong and what helps apart, for the terminal and for `doctor`."""
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy
