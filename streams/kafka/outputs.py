"""What a worker sends: librdkafka's producer, its acknowledgements awaited a batch at a time.

The producer is idempotent and waits for all replicas. A record that is not acknowledged within `timeout_seconds` is
given up and fails its batch: the worker then stops and starts again from its last commit. A record that is larger than
its topic takes is refused before it is sent.
"""

import asyncio
from collections.abc import Sequence
from threading import Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.errors import HeadraceError
from streams.kafka.clients import librdkafka_config
from streams.kafka.record_limits import RecordLimits, RecordTooLargeError, read_limits
from streams.settings import Settings
from streams.topics import SPECS

_POLL_SECONDS = 0.2


class NotAcknowledgedError(HeadraceError):
    """Kafka did not take a record: what was done with its batch must not be committed."""


class Delivery:
    """Records sent together. Await it after `seal`: it ends when Kafka has acknowledged all of them."""

    __slots__ = (
        "_acknowledged", "_done", "_expected", "_failure", "_loop", "_too_large", "_topic", "last_offset", "sent",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done = loop.create_future()
        self._acknowledged = 0
        self._expected = -1
        self._failure: KafkaError | None = None
        self._topic = ""
        self._too_large: RecordTooLargeError | None = None
        self.sent = 0
        """Records, so far."""
        self.last_offset = -1
        """Highest offset acknowledged so far."""

    def seal(self) -> "Delivery":
        """Say that all records were sent."""
        self._expected = self.sent
        if self._acknowledged == self._expected:
            self._finish()
        return self

    def on_delivery(self, failure: KafkaError | None, record: Message) -> None:
        """Take one acknowledgement; runs in the producer's thread."""
        if failure is not None and failure.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large = RecordTooLargeError(record.topic() or "", len(record.value() or b""), None)
        elif failure is not None:
            self._failure, self._topic = failure, record.topic()
        else:
            self.last_offset = max(self.last_offset, record.offset())
        self._acknowledged += 1
        # Either this thread sees the expected count or `seal` sees the last acknowledgement: never neither.
        if self._acknowledged == self._expected:
            self._loop.call_soon_threadsafe(self._finish)

    async def acknowledged(self) -> int:
        """Wait for all of them and return the highest offset.

        Raises:
            RecordTooLargeError: one of them is larger than its topic takes.
            NotAcknowledgedError: Kafka did not take one of them.
        """
        await self._done
        if self._failure is not None:
            raise _not_acknowledged(self._topic, self._failure)
        if self._too_large is not None:
            raise self._too_large
        return self.last_offset

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class Outputs:
    """The worker's only producer."""

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        self._settings = settings
        self._producer = Producer(
            librdkafka_config(
                settings,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                compression_type="none",  # records of a moment: a few hundred bytes, where there is little to gain
                partitioner="murmur2_random",  # Java's, which is what most producers of events use
                message_timeout_ms=int(timeout_seconds * 1000),
                message_max_bytes=16 * 1024 * 1024,
                queue_buffering_max_messages=1_000_000,
                queue_buffering_max_kbytes=262_144,
            )
        )
        self.limits = RecordLimits()
        """Kafka's own, until the topics' are known."""
        self._running = True
        self._poller = Thread(target=self._poll, name="outputs", daemon=True)
        self._poller.start()

    def read_limits(self, *more_topics: str) -> None:
        """Ask Kafka how large the records of Headrace's topics, and of others, may be; blocks."""
        topics = [self._settings.topics.named(spec.name) for spec in SPECS]
        self.limits = read_limits(self._settings, [*topics, *more_topics])

    def delivery(self) -> Delivery:
        """Return a new Delivery, to be awaited on the running loop."""
        return Delivery(asyncio.get_running_loop())

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        delivery: Delivery,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Hand one record to the producer. A full queue blocks: that is how a slow Kafka slows the worker.

        Raises:
            RecordTooLargeError: the topic does not take a record of that size.
            NotAcknowledgedError: the record is too large for the producer.
        """
        self.limits.check(topic, _size(key, value, headers))
        extra: dict[str, Any] = {"headers": list(headers)} if headers else {}
        while True:
            try:
                self._producer.produce(topic, value, key, partition, delivery.on_delivery, **extra)
            except BufferError:
                self._producer.poll(0.01)
            except KafkaException as exc:
                raise _not_acknowledged(topic, exc.args[0]) from exc
            else:
                delivery.sent += 1
                return

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what is queued and end the thread."""
        self._producer.flush(timeout_seconds)
        self._running = False
        self._poller.join(timeout_seconds)

    def _poll(self) -> None:
        while self._running:
            self._producer.poll(_POLL_SECONDS)


def _not_acknowledged(topic: str, failure: KafkaError) -> NotAcknowledgedError:
    """Return a sentence that names the topic: one that takes too little is not a broker that is away."""
    remedy = "check the brokers"
    if failure.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        remedy = f"raise max.message.bytes of {topic}"
    return NotAcknowledgedError(
        f"Kafka did not acknowledge a record of {topic} ({failure.str()}); {remedy}. What caused it will be read again."
    )


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] | None) -> int:
    size = len(key or b"") + len(value or b"")
    return size + sum(len(name) + len(text or b"") for name, text in headers) if headers else size
