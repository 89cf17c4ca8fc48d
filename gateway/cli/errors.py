"""How a command ends when it cannot do what it was asked for.

::

    Failure               one sentence, a remedy where there is one, an exit code
    ├── NotRunning        there is no system to talk to
    ├── Unreachable       it gave no answer, although it was asked several times
    └── ApiRefusal        it answered no, with its own code and sentence
"""

from gateway.cli.values import JsonObject

FAILED = 1
"""Exit code of a command that could not do its work."""
USAGE = 2
"""Exit code of a command that was called wrongly, as the shell's own commands have it."""
SERVER_ERRORS = 500


class Failure(Exception):
    """Shown as one sentence and the remedy; never with a traceback."""

    def __init__(self, message: str, *, remedy: str = "", exit_code: int = FAILED) -> None:
        """Keep what is wrong and what helps apart."""
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


class NotRunning(Failure):
    """No integr8s runs where this command looks for one."""


class Unreachable(Failure):
    """No answer, or one that breaks off each time."""


class ApiRefusal(Failure):
    """The API refused the request."""

    def __init__(self, status: int, problem: JsonObject) -> None:
        """Take over the words of the API."""
        detail = str(problem.get("detail") or f"The server answered {status}.")
        super().__init__(detail)
        self.status = status
        self.code = str(problem.get("code") or "")
        self.problem = problem

    @property
    def is_fault(self) -> bool:
        """Say whether the server failed, and did not just say no."""
        return self.status >= SERVER_ERRORS and self.code != "queue_full"
