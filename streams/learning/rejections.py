"""examples that cannot be learned -> dead-letters: the bytes as they came, and why; counted and logged as well."""

from typing import Any, Final

import structlog
from confluent_kafka import Producer

from streams.errors import RejectedEventError
from streams.instruments import LearnerInstruments
from streams.kafka.clients import librdkafka_config
from streams.settings import Settings

log = structlog.get_logger()

_LARGEST: Final = 16 * 1024 * 1024
"""What the topic takes; a record of `examples` may be as large as its own topic allows."""
_SECONDS: Final = 10.0


class Rejections:
    """What the learner leaves out."""

    def __init__(self, settings: Settings, instruments: LearnerInstruments) -> None:
        self._settings = settings
        self._instruments = instruments
        self._producer: Producer | None = None

    def send(self, record: Any, why: RejectedEventError) -> None:  # noqa: ANN401 - confluent-kafka's message
        """Count, log and dead-letter a record; its headers say where it was and why it is there."""
        topic, partition, offset = record.topic(), record.partition(), record.offset()
        self._instruments.rejected.labels(why.reason).inc()
        log.warning(
            "example-rejected", reason=why.reason, why=why.detail, topic=topic, partition=partition, offset=offset
        )
        said = {"reason": why.reason, "detail": why.detail, "field": why.field or "", "topic": topic}
        said |= {"partition": str(partition), "offset": str(offset)}
        headers = [(name, text.encode(errors="replace")) for name, text in said.items()]
        try:
            self._connected().produce(
                self._settings.topics.dead_letters, record.value(), record.key(), 0, headers=headers
            )
        except BufferError:  # it is logged, and the next ones are more of the same
            log.warning("dead-letter-not-sent", partition=partition, offset=offset)

    def flush(self) -> None:
        """Wait until Kafka has what was sent, for some seconds."""
        if self._producer and self._producer.flush(_SECONDS):
            log.warning("dead-letters-wait", waiting=len(self._producer))

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                librdkafka_config(self._settings, enable_idempotence=True, message_max_bytes=_LARGEST)
            )
        self._producer.poll(0)
        return self._producer
