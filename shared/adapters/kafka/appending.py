"""Records on their way into Kafka: one producer and one thread that feeds it.

The driver's `send` may block while it looks for a broker, which an event loop must not; and records
of one key must reach it in the order in which they were given. So one thread sends for everybody.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, RetriableError
from kafka.net.compat import KafkaNetClient

from shared.adapters.kafka.connection import ask
from shared.adapters.kafka.errors import not_appended
from shared.adapters.kafka.options import KafkaOptions
from shared.adapters.kafka.threads import call_back
from shared.domain.errors import EngineAway, Integr8sError, PermanentError, TemporaryError
from shared.events.topics import TOPICS
from shared.ports.event_log import NewRecord

_LOG = logging.getLogger(__name__)

_ENVELOPE_BYTES = 1024 * 1024
"""More than key and headers of a record ever have."""
_DELIVERY_MS = 30_000
"""A broker that is silent for less is waited out, without a record given up or written twice."""
_REQUEST_MS = 10_000
_RETRY_MS = 20
_BATCH_BYTES = 128 * 1024
_WORN_SECONDS = 1.0
_LAST_WORDS_SECONDS = 5.0
"""How long a process that stops waits for what it has sent."""


class _Append:
    """Records of one call, until the last of them is acknowledged."""

    def __init__(
        self,
        records: Sequence[NewRecord],
        refused: "Callable[[_Append, BaseException], None]",
    ) -> None:
        self.records = records
        self.is_second_try = False
        self.ended = threading.Event()
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._open = len(records)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def settled(self, outcome: object) -> None:
        """Take note of one record: its place in the log, or why it has none. Any thread."""
        with self._lock:
            if isinstance(outcome, BaseException):
                self._error = outcome
            self._open -= 1
            if self._open:
                return
            error, self._error = self._error, None
            self._open = len(self.records)
        if error is None:
            self.end(None)
        elif isinstance(error, RetriableError):
            self.end(not_appended(error))
        else:
            self._refused(self, error)

    def end(self, error: Integr8sError | None) -> None:
        """Let the caller go on. Any thread; what comes after the first end counts for nothing."""
        self.ended.set()
        call_back(self._loop, self._end, error)

    def _end(self, error: Integr8sError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Appender:
    """The one producer of a process, made when it is first needed.

    A record that Kafka refuses is the end of a producer, and all that is on its way with it fails
    for the same reason. So what failed is tried once more by a new one, each call by itself: then
    an error is the fault of the record that has it.
    """

    def __init__(self, options: KafkaOptions) -> None:
        """Send nothing yet."""
        self._options = options
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._producer: KafkaProducer | None = None
        self._is_worn = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Send records in this order and return once all are acknowledged.

        Raises:
            TemporaryError: No acknowledgement; some may have been appended.
            PermanentError: A record that Kafka will never take.
        """
        if not records:
            return
        self.warm()
        one = _Append(records, self._refused)
        self._queue.put(one)
        await one.done

    def warm(self) -> None:
        """Begin to make the producer, where there will be something to say soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="kafka-append", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Wait a little for what was sent, and let the producer go."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _send_all(self) -> None:
        with contextlib.suppress(Exception):  # what is wrong is wrong again for the first record
            self._usable()
        while (one := self._queue.get()) is not None:
            try:
                self._send(one)
                if one.is_second_try:
                    one.ended.wait(_DELIVERY_MS / 1000 + _LAST_WORDS_SECONDS)
            except (TemporaryError, PermanentError) as error:
                one.end(error)
            except Exception as error:  # noqa: BLE001 - a new producer may do better
                _LOG.exception("records could not be handed to Kafka's producer")
                self._is_worn = True
                one.end(EngineAway(f"Kafka's producer failed: {error}"))
        self._drop(seconds=_LAST_WORDS_SECONDS)

    def _send(self, one: _Append) -> None:
        producer = self._usable()
        name = self._options.name
        for record in one.records:
            topic, headers = name(record.topic), list(record.headers)
            try:
                sent = producer.send(topic, record.value, key=record.key, headers=headers)
            except KafkaTimeoutError as error:
                raise self._why(record.topic) from error
            except KafkaError as error:
                raise not_appended(error) from error
            sent.add_both(one.settled)

    def _why(self, topic: str) -> TemporaryError:
        """Return why nobody told us where a topic is.

        Those who wait behind for the same are told as well: each would wait as long as this one.
        """
        try:
            ask(self._options)
        except Integr8sError as error:
            reason = EngineAway(str(error))
            self._refuse(lambda _: True, reason)
        else:
            reason = EngineAway(
                f"Kafka answers and has no topic {topic}: make it by `integr8s topics apply`"
            )
            self._refuse(lambda one: any(new.topic == topic for new in one.records), reason)
        return reason

    def _refuse(self, concerns: Callable[[_Append], bool], reason: TemporaryError) -> None:
        waiting = [self._queue.get() for _ in range(self._queue.qsize())]
        for one in waiting:
            if one is not None and concerns(one):
                one.end(reason)
            else:
                self._queue.put(one)

    def _usable(self) -> KafkaProducer:
        """Return the producer; a new one where there is none yet, or the last one is done for."""
        if self._is_worn:
            self._drop(seconds=_WORN_SECONDS)
            self._is_worn = False
        if self._producer is None:
            self._producer = self._new()
        return self._producer

    def _drop(self, *, seconds: float) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=seconds)
        except KafkaError:
            # It waits for what cannot be sent, and its threads would go on trying for ever.
            producer._sender.force_close()  # noqa: SLF001 - the driver has no other way to give up
            producer.close(timeout=_LAST_WORDS_SECONDS)

    def _refused(self, one: _Append, error: BaseException) -> None:
        """Take note that the producer refuses everything from now on. Any thread."""
        self._is_worn = True
        if one.is_second_try:
            one.end(not_appended(error))
        else:
            one.is_second_try = True
            self._queue.put(one)

    def _new(self) -> KafkaProducer:
        largest = max(spec.max_message_bytes for spec in TOPICS.values())
        told: dict[str, Any] = self._options.client()
        return KafkaProducer(
            **told,
            linger_ms=0,
            batch_size=_BATCH_BYTES,
            max_request_size=largest + _ENVELOPE_BYTES,
            max_block_ms=self._options.patience_ms,
            request_timeout_ms=_REQUEST_MS,
            delivery_timeout_ms=_DELIVERY_MS,
            retry_backoff_ms=_RETRY_MS,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            kafka_client=self._client,
        )

    def _client(self, **told: Any) -> KafkaNetClient:
        """Return the driver's client, with a first question to ask.

        A producer asks where a topic is when it first has a record for it, and no two such
        questions within 100 ms: with all of them in the first one no record waits for that.
        """
        client = KafkaNetClient(**told)
        client.cluster.set_topics([self._options.name(topic) for topic in TOPICS])
        return client
