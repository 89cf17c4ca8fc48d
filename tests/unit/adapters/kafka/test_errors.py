"""What the driver's errors mean for whoever called."""

import pytest
from kafka import errors

from shared.adapters.kafka.errors import failed, not_appended
from shared.domain.errors import EngineAway, PermanentError


@pytest.mark.parametrize(
    "error",
    [
        errors.MessageSizeTooLargeError("16 MiB"),
        errors.RecordListTooLargeError("16 MiB"),
        errors.InvalidTopicError("a b"),
    ],
)
def test_what_is_wrong_with_a_record_is_for_good(error: errors.KafkaError) -> None:
    """Trying again would help nobody."""
    assert isinstance(not_appended(error), PermanentError)


@pytest.mark.parametrize(
    "error",
    [
        errors.KafkaTimeoutError("30 s"),
        errors.NotEnoughReplicasError("1 of 2"),
        errors.TopicAuthorizationFailedError("timers"),
        errors.ClusterAuthorizationFailedError("no"),
        errors.OutOfOrderSequenceNumberError("7"),
        errors.IllegalStateError("closed"),
    ],
)
def test_what_is_wrong_with_anything_else_passes(error: errors.KafkaError) -> None:
    """The record is as good as before, so it must not be given up."""
    assert isinstance(not_appended(error), EngineAway)


@pytest.mark.parametrize(
    "error",
    [
        errors.GroupAuthorizationFailedError("g"),
        errors.SaslAuthenticationFailedError("wrong"),
        errors.UnsupportedVersionError("too old"),
        errors.InconsistentGroupProtocolError("sticky"),
    ],
)
def test_a_refusal_is_for_good(error: errors.KafkaError) -> None:
    """It comes out the same however often it is asked."""
    assert isinstance(failed("joining", error), PermanentError)


@pytest.mark.parametrize(
    "error",
    [
        errors.KafkaTimeoutError("5 s"),
        errors.NotCoordinatorError("moved"),
        errors.KafkaConnectionError("refused"),
        errors.NodeNotReadyError(1),
    ],
)
def test_silence_is_waited_out(error: errors.KafkaError) -> None:
    """Another time there may be an answer."""
    assert isinstance(failed("joining", error), EngineAway)


def test_a_sentence_stays_one() -> None:
    """Some errors quote the whole request and the whole answer."""
    told = str(failed("the topics", errors.InvalidRequestError("x" * 10_000)))

    assert "the topics" in told
    assert len(told) < 400
