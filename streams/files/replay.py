"""a file or a topic -> interactions and items: events go in again, as fast as they happened or faster."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from streams.errors import StartError
from streams.files.event_files import FileRow, event_id_prefix
from streams.files.pace import Pace
from streams.kafka.clients import librdkafka_config
from streams.records import HISTORY_HEADER, Item, encode
from streams.settings import Settings

_SECONDS: Final = 20.0
"""What Kafka is given to acknowledge."""
_ANSWER_SECONDS: Final = 5.0
_TAIL_RECORDS: Final = 2000
"""Of each partition, read back to find where a replay was interrupted."""


@dataclass
class Replayed:
    """What a replay did so far."""

    line: int = 0
    """The last one that was read."""
    sent: int = 0
    acknowledged: int = 0
    items: int = 0
    refused: int = 0
    """Rows that Kafka did not take; the last reason is in `problem`."""
    problem: str = ""


class EventSender:
    """Puts events on `interactions` and their items on `items`, waiting while librdkafka's queue is full.

    Args:
        settings: which broker and prefix.
        linger_ms: how long librdkafka may wait for more: 0 for latency, some for throughput.

    Raises:
        StartError: Kafka does not answer, or has no such topic.
    """

    def __init__(self, settings: Settings, *, linger_ms: float = 0.0) -> None:
        self.done = Replayed()
        self._interactions = settings.topics.interactions
        self._items = settings.topics.items
        self._producer = Producer(librdkafka_config(settings, enable_idempotence=True, linger_ms=linger_ms))
        partitions = _partitions(self._producer, settings, self._interactions)
        # Named for each event, by the rule of Kafka's Java clients: a key always meets the partition it met before,
        # and what has no key goes where --resume finds it.
        self.partition_of: Callable[[bytes], int] = lru_cache(1 << 16)(
            lambda key: (murmur2(key) & 0x7FFFFFFF) % partitions
        )
        self._described: set[str] = set()

    def send(self, value: bytes | None, key: bytes, *, history: bool = False) -> None:
        """Queue one event, from the past of the shop when `history` is set."""
        headers = [(HISTORY_HEADER, b"")] if history else None
        self._produce(self._interactions, key, value, self.partition_of(key), headers)
        self.done.sent += 1

    def describe(self, item: Item) -> None:
        """Queue an item, unless it was described before."""
        if item.item_id not in self._described:
            self._described.add(item.item_id)
            self._produce(self._items, item.item_id.encode(), encode(item), 0, None)
            self.done.items += 1

    def poll(self) -> None:
        """Take acknowledgements in."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait for all acknowledgements.

        Raises:
            StartError: some did not come.
        """
        if left := self._producer.flush(_SECONDS):
            raise StartError(f"Kafka did not acknowledge {left} events; when it is back, replay again with --resume.")

    def _produce(
        self, topic: str, key: bytes, value: bytes | None, partition: int, headers: list[tuple[str, bytes]] | None
    ) -> None:
        give_up = time.monotonic() + _SECONDS
        while True:
            try:
                self._producer.produce(
                    topic, value, key or None, partition, headers=headers, on_delivery=self._delivered
                )
            except BufferError as exc:  # the queue is full: this is the backpressure
                if self._producer.poll(0.1) == 0 and time.monotonic() > give_up:
                    raise StartError("Kafka takes no events; is it running? Replay again with --resume.") from exc
            except KafkaException as exc:
                self.done.refused += 1
                self.done.problem = exc.args[0].str()
                return
            else:
                return

    def _delivered(self, error: Any, _message: Message) -> None:  # noqa: ANN401 - librdkafka's
        if error is None:
            self.done.acknowledged += 1
        else:
            self.done.refused += 1
            self.done.problem = error.str()


def replay(
    rows: Iterable[FileRow],
    sender: EventSender,
    pace: Pace,
    *,
    stop: threading.Event,
    history: bool = False,
    sent_before: dict[int, int] | None = None,
) -> Iterator[Replayed]:
    """Send rows at their pace; yield what was done after each, so that the caller can show it.

    Args:
        rows: see between and read_rows.
        sender: where they go.
        pace: how fast.
        stop: ends the replay when it is set.
        history: the rows are the past: folded into the histories, not answered.
        sent_before: from resume_points: partition to its last line.
    """
    began, first, count = time.monotonic(), None, 0
    for row in rows:
        key = (row.user_id or "").encode(errors="replace")
        if sent_before and row.line <= sent_before.get(sender.partition_of(key), 0):
            continue
        if row.timestamp is not None:
            first = row.timestamp if first is None else first
        due = began + pace.due_seconds(count, (row.timestamp or first or 0) - (first or 0))
        _wait_until(due, sender, stop)
        if stop.is_set():
            return
        if row.item and row.user_id:  # what has no user is no sale: the shop's own remarks stand in place of the title
            sender.describe(row.item)
        sender.send(row.value, key, history=history)
        count += 1
        if count % 64 == 0:
            sender.poll()
        sender.done.line = row.line
        yield sender.done


def between(rows: Iterable[FileRow], since_ms: int | None, until_ms: int | None) -> Iterator[FileRow]:
    """Yield the rows from one event time on and before another; without a readable time only when neither is set."""
    for row in rows:
        if row.timestamp is None:
            if since_ms is None and until_ms is None:
                yield row
        elif (since_ms is None or row.timestamp >= since_ms) and (until_ms is None or row.timestamp < until_ms):
            yield row


def resume_points(settings: Settings, path: Path) -> dict[int, int]:
    """Return for each partition the last line of a file that it holds.

    Lines go to a partition in order, so each partition lacks exactly the lines after its own last one.

    Raises:
        StartError: Kafka does not answer.
    """
    topic = settings.topics.interactions
    prefix = f'"event_id":"{event_id_prefix(path)}'.encode()
    points: dict[int, int] = {}
    for message in _records(settings, topic, lambda low, high: max(low, high - _TAIL_RECORDS)):
        _, found, rest = (message.value() or b"").partition(prefix)
        if found and (line := rest.partition(b'"')[0]).isdigit():
            partition = int(message.partition() or 0)
            points[partition] = max(points.get(partition, 0), int(line))
    return points


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
    for line, message in enumerate(_records(settings, topic, lambda low, _: low, since_ms), start=1):
        timestamp = message.timestamp()[1]
        if until_ms is None or timestamp < until_ms:
            key = message.key()
            yield FileRow(line, message.value(), key.decode(errors="replace") if key else None, timestamp, None)


def _wait_until(due: float, sender: EventSender, stop: threading.Event) -> None:
    while (left := due - time.monotonic()) > 0 and not stop.is_set():
        sender.poll()
        stop.wait(min(left, 0.5))


def _partitions(client: Producer | Consumer, settings: Settings, topic: str) -> int:
    try:
        found = client.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic]
    except KafkaException as exc:
        raise StartError(
            f"Kafka at {settings.broker} does not answer; start it (`headrace broker`) or correct HEADRACE_BROKER."
        ) from exc
    if found.error or not found.partitions:
        raise StartError(f"Kafka at {settings.broker} has no topic {topic}; `headrace topics` creates Headrace's.")
    return len(found.partitions)


def _records(
    settings: Settings, topic: str, begin: Callable[[int, int], int], since_ms: int | None = None
) -> Iterator[Message]:
    """Yield the records that the partitions hold now, each partition in its order."""
    consumer = Consumer(librdkafka_config(settings, group_id=settings.topics.named("replay"), enable_auto_commit=False))
    try:
        ends, starts = {}, []
        for partition in range(_partitions(consumer, settings, topic)):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_SECONDS)
            start = begin(low, high)
            if since_ms is not None:
                [found] = consumer.offsets_for_times([TopicPartition(topic, partition, since_ms)], timeout=_SECONDS)
                start = found.offset if found.offset >= 0 else high
            if start < high:
                ends[partition] = high
                starts.append(TopicPartition(topic, partition, start))
        consumer.assign(starts)
        while ends:
            for message in consumer.consume(1000, timeout=1.0):
                partition = message.partition()
                if message.error() is None and message.offset() < ends.get(partition, 0):
                    yield message
            for position in consumer.position([TopicPartition(topic, p) for p in ends]):
                if position.offset >= ends[position.partition]:
                    del ends[position.partition]
    except KafkaException as exc:
        raise StartError(f"Kafka at {settings.broker} cannot be read: {exc.args[0].str()}.") from exc
    finally:
        consumer.close()
