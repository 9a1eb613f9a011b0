"""rejected events -> dead-letters: the bytes as they came, and why, so that nothing is lost in silence.

With pseudonyms they are not as they came: a user's id is taken out of them (streams.kafka.unnamed).

An event that was taken although a field did not fit is no dead letter: the field is counted, and said once.
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.outputs import Delivery, Outputs
from streams.kafka.unnamed import Unnamed
from streams.repair import LEFT_OUT, Fates

_log = structlog.get_logger()

MOST_BYTES: Final = 16 * 1024 * 1024 - 64 * 1024
"""Of a record as it came. `dead-letters` takes 16 MiB, which is more than Kafka lets most topics take; what is larger
still would never be acknowledged, and its batch would be read again for ever."""

Header = tuple[str, bytes]

_WHY_LENIENT: Final = {
    True: "The field cannot be read with certainty or is out of bounds; its events are taken without it.",
    False: "The field is not of the type that the schema says; its events are understood, at some cost of time.",
}


class DeadLetters:
    """Counts, logs and sends rejected events."""

    def __init__(
        self, topic: str, outputs: Outputs, instruments: WorkerInstruments, unnamed: Unnamed | None = None
    ) -> None:
        self._topic = topic
        self._unnamed = unnamed
        self._outputs = outputs
        self._instruments = instruments
        self._said: set[tuple[str, str, str]] = set()

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

    def count_lenient(self, topic: str, fates: Fates) -> None:
        """Count fields that did not fit; a producer does so in all of its events, so each kind is logged once."""
        for (field, fate), count in fates.items():
            self._instruments.lenient_fields.labels(topic, field, fate).inc(count)
            if (topic, field, fate) not in self._said:
                self._said.add((topic, field, fate))
                _log.warning("lenient_field", topic=topic, field=field, fate=fate, why=_WHY_LENIENT[fate == LEFT_OUT])


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
