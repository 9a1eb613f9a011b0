"""rejected events -> dead-letters: the bytes as they came, and why, so that nothing is lost in silence.

With pseudonyms they are not as they came: a user's id is taken out of them (streams.kafka.unnamed).
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.outputs import Delivery, Outputs
from streams.kafka.unnamed import Unnamed
from streams.lenient_fields import LenientFields

_log = structlog.get_logger()

MOST_BYTES: Final = 16 * 1024 * 1024 - 64 * 1024
"""Of a record as it came. `dead-letters` takes 16 MiB, which is more than Kafka lets most topics take; what is larger
still would never be acknowledged, and its batch would be read again for ever."""

Header = tuple[str, bytes]


class DeadLetters:
    """Counts, logs and sends rejected events."""

    def __init__(
        self, topic: str, outputs: Outputs, instruments: WorkerInstruments, unnamed: Unnamed | None = None
    ) -> None:
        self._topic = topic
        self._unnamed = unnamed
        self._outputs = outputs
        self._instruments = instruments
        self.lenient_fields = LenientFields(instruments)
        """For whoever takes an event although a field of it did not fit."""

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
        headers: Sequence[Header] = (),
    ) -> None:
        """Send bytes that came from (topic, partition, offset); of a record above MOST_BYTES, what fits."""
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
        if self._unnamed and self._unnamed.names(topic):
            key, value, headers = self._unnamed.key(key, partition), self._unnamed.value(value, partition), ()
            said["unnamed"] = "left out" if value is None else "pseudonym"
        key, value, kept, cut = _bounded(key, value, headers)
        if cut:
            said["bytes_cut"] = str(cut)
        self._outputs.send(
            self._topic,
            key,
            value,
            delivery,
            headers=[*kept, *((name, text.encode()) for name, text in said.items())],
        )


def _bounded(
    key: bytes | None, value: bytes | None, headers: Sequence[Header]
) -> tuple[bytes | None, bytes | None, list[Header], int]:
    """Return what fits of a record, the key before the value before the headers, and how many bytes do not."""
    size = _size(key, value, headers)
    if size <= MOST_BYTES:
        return key, value, list(headers), 0
    key = key and key[:MOST_BYTES]
    value = value and value[: MOST_BYTES - len(key or b"")]
    kept: list[Header] = []
    for header in headers:
        if _size(key, value, [*kept, header]) <= MOST_BYTES:
            kept.append(header)
    return key, value, kept, size - _size(key, value, kept)


def _size(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    return len(key or b"") + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers)
