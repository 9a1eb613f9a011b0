"""rejected events -> dead-letters: the bytes as they came, and why, so that nothing is lost in silence."""

from collections.abc import Sequence
from typing import Any

import structlog

from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.outputs import Delivery, Outputs

_log = structlog.get_logger()


class DeadLetters:
    """Counts, logs and sends rejected events."""

    def __init__(self, topic: str, outputs: Outputs, instruments: WorkerInstruments) -> None:
        self._topic = topic
        self._outputs = outputs
        self._instruments = instruments

    def send(self, message: Any, record: Any, why: RejectedEventError, delivery: Delivery) -> None:  # noqa: ANN401
        """Send a record of a message, key, value and headers unchanged; more say where it was and why it is here."""
        source = (message.topic, message.partition, record.offset)
        self.send_bytes(record.key, record.value, why, source, delivery, record.headers)

    def send_bytes(
        self,
        key: bytes | None,
        value: bytes | None,
        why: RejectedEventError,
        source: tuple[str, int, int],
        delivery: Delivery,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send bytes that came from (topic, partition, offset)."""
        topic, partition, offset = source
        self._instruments.dead_letters.labels(topic, why.reason).inc()
        _log.info("event_rejected", reason=why.reason, topic=topic, partition=partition, offset=offset)
        said = {
            "reason": why.reason,
            "detail": why.detail[:500],
            "field": why.field or "",
            "topic": topic,
            "partition": str(partition),
            "offset": str(offset),
        }
        self._outputs.send(
            self._topic,
            key,
            value,
            delivery,
            headers=[*headers, *((name, text.encode()) for name, text in said.items())],
        )
