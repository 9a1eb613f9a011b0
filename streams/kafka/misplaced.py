"""users whose records lie in another partition than theirs -> a counter, one line of log, a finding of the doctor.

A producer with another partitioner than Kafka's own (librdkafka's default is CRC32), without a key, or with a key in
JSON's quotes, leaves a user in a partition where nobody looks for that user, or in several.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition, murmur2

from streams.errors import StartError
from streams.instruments import WorkerInstruments
from streams.kafka.clients import librdkafka_config
from streams.kafka.range_reader import UnreadableRangeError, read_range
from streams.kafka.refusals import refusal
from streams.settings import Settings

_log = structlog.get_logger()

REMEDY: Final = (
    "Key each record by the plain user_id, by Kafka's own partitioner: the default of Java and kafka-python, "
    "partitioner=murmur2_random of librdkafka and its Go, .NET and Node clients."
)
_NEWEST: Final = 200
"""Records of a partition that the doctor looks at."""
_SECONDS: Final = 5.0


class _Named(msgspec.Struct):
    """A record of any topic that is keyed by user."""

    user_id: str | int


_NAMED: Final = msgspec.json.Decoder(_Named)


def partition_of(user_id: str, partitions: int) -> int:
    """Return the partition of a user, by the rule of Kafka's Java clients.

    >>> partition_of("u1", 4), partition_of('"u1"', 4)
    (3, 2)
    """
    found: int = murmur2(user_id.encode(), partitions)
    return found


class Misplaced:
    """Counts what a worker meets, and says it once a topic."""

    def __init__(self, instruments: WorkerInstruments) -> None:
        self._counter = instruments.misplaced
        self._said: set[str] = set()

    def count(self, topic: str, partition: int, users: int) -> None:
        """Count users of a batch whose records do not belong into its partition."""
        if not users:
            return
        self._counter.labels(topic).inc(users)
        if topic not in self._said:
            self._said.add(topic)
            _log.warning("users_misplaced", topic=topic, partition=partition, users=users, advice=REMEDY)


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest records of a topic."""

    topic: str
    looked: int
    misplaced: int


def samples(settings: Settings, names: Iterable[str], newest: int = _NEWEST) -> list[Sample]:
    """Look at the newest records of each partition of topics that are keyed by user.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    client = librdkafka_config(settings)
    consumer = Consumer({"group.id": "headrace-readers", **client})
    try:
        return [_sample(consumer, client, settings.topics.named(name), newest) for name in names]
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    except UnreadableRangeError as exc:
        raise StartError(f"The newest records cannot be read: {exc}") from exc
    finally:
        consumer.close()


def _sample(consumer: Consumer, client: dict[str, object], topic: str, newest: int) -> Sample:
    numbers = sorted(consumer.list_topics(topic, _SECONDS).topics[topic].partitions)
    looked = misplaced = 0
    for number in numbers:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), _SECONDS)
        records = read_range(client, topic, number, max(low, high - newest), high - 1, _SECONDS) if high > low else []
        users = [user_id for record in records if (user_id := _user(record.value))]
        looked += len(users)
        misplaced += sum(partition_of(user_id, len(numbers)) != number for user_id in users)
    return Sample(topic, looked, misplaced)


def _user(value: bytes | None) -> str:
    try:
        return str(_NAMED.decode(value or b"").user_id)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
