"""a partition, from one offset to another -> its records once more, beside the consumer that has moved on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message, TopicPartition

from streams.errors import HeadraceError

_AT_ONCE: Final = 1000
_POLL_SECONDS: Final = 0.1
_MEMORY_KILOBYTES: Final = 4 * 1024


class UnreadableRangeError(HeadraceError):
    """Records that were read once cannot be read again."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record, with the names that aiokafka gives its parts."""

    offset: int
    timestamp: int
    """Of the broker or the producer, epoch milliseconds."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def read_range(
    client: Mapping[str, Any], topic: str, partition: int, first: int, last: int, seconds: float
) -> list[Record]:
    """Return the committed records from offset `first` to `last`, those that are still there.

    Args:
        client: librdkafka's settings of the connection.
        topic: its full name.
        partition: of the topic.
        first: the first offset that is wanted.
        last: the last one.
        seconds: how long it may take.

    Raises:
        UnreadableRangeError: Kafka does not give them in time.
    """
    consumer = Consumer(
        {
            "group.id": "headrace-readers",  # librdkafka wants one; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": _MEMORY_KILOBYTES,
            "fetch.wait.max.ms": 10,
            **client,
        }
    )
    records: list[Record] = []
    deadline, position = time.monotonic() + seconds, first
    try:
        consumer.assign([TopicPartition(topic, partition, first)])
        while position <= last:
            if time.monotonic() > deadline:
                raise UnreadableRangeError(
                    f"Offsets {first} to {last} of {topic}/{partition} cannot be read again within {seconds:g} s; the "
                    "worker ends and is to be started again."
                )
            for message in consumer.consume(_AT_ONCE, _POLL_SECONDS):
                position = max(position, _next(message, last))
                if message.error() is None and message.offset() <= last:
                    records.append(_record(message))
    finally:
        consumer.close()
    return records


def _next(message: Message, last: int) -> int:
    """Return up to where a message shows that the partition was read."""
    error = message.error()
    if error is None:
        return int(message.offset()) + 1
    # What is not there any more lies before the end: the partition was read as far as it goes.
    return last + 1 if error.code() == KafkaError._PARTITION_EOF else 0  # noqa: SLF001 - its public name


def _record(message: Message) -> Record:
    kind, timestamp = message.timestamp()
    return Record(
        message.offset(),
        0 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        message.key(),
        message.value(),
        message.headers() or (),
    )
