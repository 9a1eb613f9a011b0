"""a topic of one partition -> its records in order: followed by a thread, or read to what is its end now.

Runs inside Triton's backend too: it takes plain values and imports neither torch nor Faust.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streams.errors import StartError

END_MS: Final = 10
"""`fetch.wait.max.ms` of who reads to the end once: Kafka says 500 ms later by default that this is the end."""
_BATCH: Final = 1000
_POLL_SECONDS: Final = 0.2
_SILENT_SECONDS: Final = 10.0
_MEMORY_KILOBYTES: Final = 16 * 1024
_NOTHING_MORE: Final = (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART)  # noqa: SLF001 - its public name


def reader(client: Mapping[str, Any], topics: str | Sequence[str], position: int = 0) -> Consumer:
    """Return a consumer of what was committed to a topic of one partition, or to several, from a position on.

    Args:
        client: librdkafka's settings of the connection.
        topics: full names.
        position: the first offset that is wanted. 0 finds a beginning that is further on; librdkafka's OFFSET_BEGINNING
            does too, and waits 500 ms first.
    """
    consumer = Consumer(
        {
            "group.id": "headrace-readers",  # librdkafka wants one; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": _MEMORY_KILOBYTES,
            "topic.metadata.refresh.interval.ms": 5000,
            **client,
        }
    )
    names = [topics] if isinstance(topics, str) else topics
    consumer.assign([TopicPartition(name, 0, position) for name in names])
    return consumer


def to_the_end(consumer: Consumer) -> Iterator[Message]:
    """Yield the records up to what is the end now; none of a topic that does not exist.

    Raises:
        StartError: Kafka gives nothing for a while; it says what the client was told last.
    """
    why, deadline = "", time.monotonic() + _SILENT_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(_POLL_SECONDS)  # consume(1000) would wait for so many, or for the whole timeout
        if message is None:
            continue
        error = message.error()
        if error is None:
            deadline = time.monotonic() + _SILENT_SECONDS
            yield message
        elif error.code() in _NOTHING_MORE:
            return
        else:
            why = error.str()
    found = f"gives no records ({why})" if why else "does not answer"
    raise StartError(f"Kafka {found}; check the broker, HEADRACE_BROKER and the HEADRACE_KAFKA__… settings.")
