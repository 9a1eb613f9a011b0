"""a topic of interactions -> rows, and what a topic holds already: read, never waited for."""

from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from xxhash import xxh3_64_digest

from streams.errors import StartError
from streams.files.event_files import FileRow
from streams.files.progress import Progress
from streams.kafka.clients import librdkafka_config
from streams.records import HISTORY_HEADER
from streams.settings import Settings

_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 5.0
_LATE_RECORDS: Final = 100_000
"""Of a partition, after the last one that a replay knows to be acknowledged: where those lie that it did not hear of
before it ended."""


class SentBefore:
    """Which events of a file a topic holds from an interrupted replay."""

    def __init__(self, progress: Progress, settings: Settings, topic: str, partitions: int) -> None:
        """Look what the topic holds beyond the progress that was written.

        Raises:
            StartError: Kafka does not answer, or the topic was made anew since.
        """
        self._points = {partition: position for partition, (position, _) in progress.points.items()}
        if partitions != progress.partitions:  # keys have moved: only what every partition passed is certain
            every = [self._points.get(partition, 0) for partition in range(progress.partitions)]
            self._points = dict.fromkeys(range(partitions), min(every))
        offsets = {partition: offset for partition, (_, offset) in progress.points.items()}

        def begin(partition: int, low: int, high: int) -> int:
            if offsets.get(partition, -1) >= high:
                raise StartError(
                    f"{topic} holds less than this replay had sent: it was made anew. Replay without --resume."
                )
            return max(low, offsets.get(partition, -1) + 1, high - _LATE_RECORDS)

        self._late = {xxh3_64_digest(message.value() or b"") for message in records(settings, topic, begin)}

    def holds(self, partition: int, position: int, value: bytes | None) -> bool:
        """Return whether the row at this place among the rows was sent."""
        return position <= self._points.get(partition, 0) or xxh3_64_digest(value or b"") in self._late


def topic_rows(settings: Settings, topic: str, since_ms: int | None, until_ms: int | None) -> Iterator[FileRow]:
    """Yield what a topic of interactions holds now, partition by partition in its own order.

    Args:
        settings: which broker.
        topic: its full name.
        since_ms: the broker's timestamp to begin with; None begins with the oldest record.
        until_ms: the broker's timestamp to end before.

    Raises:
        StartError: Kafka does not answer, or has no such topic.
    """
    found = records(settings, topic, lambda _partition, low, _high: low, since_ms)
    for line, message in enumerate(found, start=1):
        timestamp = message.timestamp()[1]
        if until_ms is None or timestamp < until_ms:
            key, headers = message.key(), message.headers() or ()
            yield FileRow(
                line,
                message.value(),
                key.decode(errors="replace") if key else None,
                timestamp,
                history=any(name == HISTORY_HEADER for name, _ in headers),
            )


def partitions_of(client: Producer | Consumer, settings: Settings, topic: str) -> tuple[int, str]:
    """Return how many partitions a topic has, and the id of its cluster.

    Raises:
        StartError: Kafka does not answer, or has no such topic.
    """
    try:
        cluster = client.list_topics(topic, timeout=_ANSWER_SECONDS)
    except KafkaException as exc:
        raise StartError(
            f"Kafka at {settings.broker} does not answer; start it (`headrace broker`) or correct HEADRACE_BROKER."
        ) from exc
    found = cluster.topics[topic]
    if found.error or not found.partitions:
        raise StartError(f"Kafka at {settings.broker} has no topic {topic}; `headrace topics` creates Headrace's.")
    return len(found.partitions), str(cluster.cluster_id)


def records(
    settings: Settings, topic: str, begin: Callable[[int, int, int], int], since_ms: int | None = None
) -> Iterator[Message]:
    """Yield the records that the partitions hold now, each partition in its order.

    Args:
        settings: which broker.
        topic: its full name.
        begin: the first offset wanted of a partition that holds these: partition, lowest, end.
        since_ms: the broker's timestamp to begin with.

    Raises:
        StartError: Kafka does not answer, or has no such topic.
    """
    config = {"group_id": settings.topics.named("replay"), "enable_auto_commit": False, "enable_partition_eof": True}
    consumer = Consumer(librdkafka_config(settings, **config))
    try:
        starts, ends = _spans(consumer, settings, topic, begin, since_ms)
        consumer.assign(starts)
        while ends:
            for message in consumer.consume(1000, timeout=1.0):
                partition, error = message.partition(), message.error()
                if error is None and message.offset() < ends.get(partition, 0):
                    yield message
                elif error and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    ends.pop(partition, None)  # after a transaction the last offset is no record
            for position in consumer.position([TopicPartition(topic, p) for p in ends]):
                if position.offset >= ends[position.partition]:
                    del ends[position.partition]
    except KafkaException as exc:
        raise StartError(f"Kafka at {settings.broker} cannot be read: {exc.args[0].str()}.") from exc
    finally:
        consumer.close()


def _spans(
    consumer: Consumer, settings: Settings, topic: str, begin: Callable[[int, int, int], int], since_ms: int | None
) -> tuple[list[TopicPartition], dict[int, int]]:
    """Return where to begin, and the end of each partition that has something."""
    starts, ends = [], {}
    for partition in range(partitions_of(consumer, settings, topic)[0]):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_SECONDS)
        start = begin(partition, low, high)
        if since_ms is not None:
            [found] = consumer.offsets_for_times([TopicPartition(topic, partition, since_ms)], timeout=_SECONDS)
            start = found.offset if found.offset >= 0 else high
        if start < high:
            starts.append(TopicPartition(topic, partition, start))
            ends[partition] = high
    return starts, ends
