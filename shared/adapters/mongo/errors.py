"""What the driver and the server raise, in the port's words.

The default is temporary: an error that nobody foresaw is tried again, with a bound, and ends among
the dead letters if it stays. Only what is wrong with the document itself is given up at once.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from shared.adapters.mongo.values import UNWRITABLE, unwritable
from shared.domain.errors import AlreadyExists, EngineAway, Integr8sError, PermanentError

_SHOWN = 200
_CHATTER = re.compile(r", full error|, Timeout: | \(configured timeouts|\n")
_DUPLICATE = 11000
_NO_COMMAND = 59
_REFUSED = frozenset(
    {
        11,  # UserNotFound
        13,  # Unauthorized
        18,  # AuthenticationFailed
        334,  # MechanismUnavailable
        8000,  # what hosted servers say for any of these
    }
)
_UNFIT = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        14,  # TypeMismatch
        28,  # PathNotViable: a path through a value that is no object
        40,  # ConflictingUpdateOperators: one path changed twice
        52,  # DollarPrefixedFieldName
        56,  # EmptyFieldName
        57,  # DottedFieldName
        66,  # ImmutableField
        10334,  # BSONObjectTooLarge
        17419,  # the document would become too large
        17420,  # the same, by an update
    }
)
"""Codes that speak of the document at hand, which will be no better next time."""

REFUSED_REMEDY = "Correct user and password in INTEGR8S_MONGO_URL, or the rights of that user."


@contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        AlreadyExists: The key, or a unique index, is taken.
        PermanentError: The document is too large, or cannot be written as it is.
        EngineAway: No answer in time, or one that may be another one later.
    """
    try:
        yield
    except UNWRITABLE as error:
        raise unwritable(error) from error
    except InvalidOperation:
        raise  # a closed client is asked: a bug of ours
    except PyMongoError as error:
        raise ours(error, what) from error
    except (OSError, TimeoutError) as error:
        raise EngineAway(f"{what}: MongoDB gave no answer ({error})") from error


def ours(error: PyMongoError, what: str) -> Integr8sError:
    """Return the error of ours that says what the caller can do about one of the driver's."""
    if isinstance(error, DuplicateKeyError):
        fields = (error.details or {}).get("keyPattern") or ["the key or a unique value"]
        return AlreadyExists(f"{what}: taken already: {', '.join(fields)}")
    if is_refusal(error):
        return EngineAway(f"{what}: MongoDB refuses this process. {REFUSED_REMEDY}")
    if _code(error) in _UNFIT:
        return PermanentError(f"{what}: MongoDB does not take this ({sentence(error)})")
    return EngineAway(f"{what}: MongoDB gave no answer ({sentence(error)})")


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, BulkWriteError):
        failed = error.details["writeErrors"]
        return int(failed[0]["code"]) if failed else None
    return error.code if isinstance(error, OperationFailure) else None


def stored_before(error: BulkWriteError) -> int | None:
    """Return how many documents were stored before one whose key is taken; None if none is."""
    # Not what the server says was inserted: a stand-in for MongoDB counts the refused ones too.
    return int(error.details["writeErrors"][0]["index"]) if _code(error) == _DUPLICATE else None


def sentence(error: Exception) -> str:
    """Return what the driver says, without whole documents, passwords and topologies."""
    said = "no details" if isinstance(error, BulkWriteError) else str(error)
    return _CHATTER.split(said, maxsplit=1)[0].rstrip(".")[:_SHOWN]


def is_refusal(error: PyMongoError) -> bool:
    """Say whether the server knows this process not, or gives it no right."""
    if not isinstance(error, OperationFailure):
        return False
    # A server without users does not even know how to ask for one.
    return error.code in _REFUSED or (error.code == _NO_COMMAND and "sasl" in str(error))


def is_misfit(error: PyMongoError) -> bool:
    """Say whether this server can never give what was asked for, being too old for example."""
    return isinstance(error, ConfigurationError)
