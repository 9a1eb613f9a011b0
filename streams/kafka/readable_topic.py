"""a topic of one partition -> all of it that can be read now, each record once, as often as it is asked for.

What can be read ends where an open transaction begins. There is no deadline while records come in, however many there
are; only a Kafka that gives nothing for a while is an error.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.errors import StartError
from streams.kafka.failures import is_passing
from streams.kafka.topic_reader import reader

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.1
_BATCH: Final = 1000
_ANSWER_SECONDS: Final = 30.0
_SILENT_SECONDS: Final = 30.0
_TOLD_SECONDS: Final = 5.0


class ReadableTopic:
    """Reads on from where it stands.

    Args:
        client: librdkafka's settings of the connection.
        topic: its full name.
        position: the first offset that is wanted.
    """

    def __init__(self, client: Mapping[str, Any], topic: str, position: int = 0) -> None:
        self.topic = topic
        self._partition = TopicPartition(topic, 0)
        self._consumer = reader(client, topic, position)
        self._position = position
        """Next offset."""

    def up_to_now(self) -> Iterator[Message]:
        """Yield what is new, up to what can be read now.

        Raises:
            StartError: Kafka gave nothing for half a minute.
            KafkaException: it does not answer, or refuses.
        """
        begin, end = self._consumer.get_watermark_offsets(self._partition, _ANSWER_SECONDS)
        told = heard = time.monotonic()
        while max(self._position, begin) < end:
            before = self._position
            yield from self._records(_POLL_SECONDS)
            now = time.monotonic()
            if self._position != before:
                heard = now
            elif now > heard + _SILENT_SECONDS:
                raise StartError(
                    f"Kafka gives no records of {self.topic} beyond offset {max(self._position, begin)} of {end} for "
                    f"{_SILENT_SECONDS:.0f} s; check the brokers."
                )
            if now > told + _TOLD_SECONDS:
                told = now
                log.info("topic-is-read", topic=self.topic, offset=self._position, end=end)

    def waiting(self) -> Iterator[Message]:
        """Yield what has come in, without waiting for more."""
        return self._records(0.0)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _records(self, wait_seconds: float) -> Iterator[Message]:
        first = self._consumer.poll(wait_seconds)  # consume() alone would wait for a whole batch
        for record in [] if first is None else [first, *self._consumer.consume(_BATCH, 0)]:  # a tombstone is false
            error = record.error()
            if error is None:
                self._position = record.offset() + 1
                yield record
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - after records that nobody gets
                self._position = max(self._position, record.offset())
            elif not is_passing(error):
                raise KafkaException(error)
