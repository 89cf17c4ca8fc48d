"""The driver's errors as ours: what the caller should do next."""

from datetime import timedelta

from kafka import errors

from shared.domain.errors import EngineAway, PermanentError, TemporaryError

_OPERATOR = timedelta(seconds=10)
"""Wait where a person has to act first."""
_LONGEST = 300

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_REFUSED = (
    errors.AuthorizationError,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
    errors.IncompatibleBrokerVersion,
    errors.InvalidGroupIdError,
    errors.InconsistentGroupProtocolError,
    errors.InvalidSessionTimeoutError,
)
"""What comes out the same, however often it is asked."""

MOVED = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.RebalanceInProgressError,
    errors.UnknownMemberIdError,
)
"""The group is being shared out anew, or was while we did not look."""


def not_appended(error: BaseException) -> TemporaryError | PermanentError:
    """Return why a record was not acknowledged.

    Only what is wrong with the record itself is for good: such a record is given up, while one that
    met a missing right is as good as before.
    """
    if isinstance(error, _TOO_LARGE):
        return PermanentError(f"a record is larger than Kafka takes: {_short(error)}")
    if isinstance(error, errors.InvalidTopicError):
        return PermanentError(f"Kafka knows no such topic: {_short(error)}")
    if isinstance(error, errors.AuthorizationError):
        return EngineAway(
            f"Kafka does not let us write: {_short(error)}; give this account the right to",
            retry_after=_OPERATOR,
        )
    return EngineAway(f"Kafka did not acknowledge: {_short(error)}")


def failed(doing: str, error: BaseException) -> TemporaryError | PermanentError:
    """Return why something else failed; `doing` says what, as in `reading offsets`."""
    if isinstance(error, _REFUSED):
        return PermanentError(f"Kafka refused {doing}: {_short(error)}")
    return EngineAway(f"Kafka gave no answer to {doing}: {_short(error)}")


def _short(error: BaseException) -> str:
    """Return what an error says; some quote the whole request and the whole answer."""
    text = str(error).removesuffix(": None")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
