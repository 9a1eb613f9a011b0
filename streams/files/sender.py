"""events and items -> `interactions` and `items`: sent as fast as Kafka takes them, and counted as it acknowledges."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaException, Message, Producer, murmur2

from streams.errors import StartError
from streams.files.outcome import Replayed
from streams.files.topic_rows import partitions_of
from streams.kafka.clients import librdkafka_config
from streams.kafka.readable_topic import ReadableTopic
from streams.records import HISTORY_HEADER, Item, encode
from streams.settings import Settings

_SECONDS: Final = 20.0
"""What Kafka is given to acknowledge."""


class EventSender:
    """Puts events on `interactions` and their items on `items`, waiting while librdkafka's queue is full.

    Args:
        settings: which broker and prefix.
        linger_ms: how long librdkafka may wait for more: 0 for latency, some for throughput.

    Raises:
        StartError: Kafka does not answer, or has no such topic.
    """

    def __init__(self, settings: Settings, *, linger_ms: float = 0.0) -> None:
        self.settings = settings
        self.done = Replayed()
        self.topic = settings.topics.interactions
        self._items = settings.topics.items
        self._producer = Producer(librdkafka_config(settings, enable_idempotence=True, linger_ms=linger_ms))
        self.partitions, self.cluster = partitions_of(self._producer, settings, self.topic)
        # Named for each event, by the rule of Kafka's Java clients: a key always meets the partition it met before.
        self.partition_of: Callable[[bytes], int] = lambda key: murmur2(key, self.partitions)
        self._known: set[str] | None = None
        """Items that the topic said something of before."""
        self._described: set[str] = set()

    def send(self, value: bytes | None, key: bytes, *, history: bool = False, position: int = 0) -> None:
        """Queue one event, from the past of the shop when `history` is set.

        Args:
            value: the event.
            key: its user.
            history: fold it, but do not answer it.
            position: its place among the rows of a file; noted in `done.points` when it is acknowledged.
        """
        headers = [(HISTORY_HEADER, b"")] if history else None
        self._produce(self.topic, key, value, self.partition_of(key), headers, partial(self._delivered, position))
        self.done.sent += 1

    def describe(self, item: Item) -> None:
        """Queue an item, unless `items` says something of it already: a file tells how it was, not how it is.

        What `items` says may be that it is retired.
        """
        if item.item_id in self._described:
            return
        self._described.add(item.item_id)
        if self._known is None:
            self._known = self._said_before()
        if item.item_id in self._known:
            self.done.items_left += 1
            return
        self._produce(self._items, item.item_id.encode(), encode(item), 0, None, self._item_delivered)
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

    def _said_before(self) -> set[str]:
        topic = ReadableTopic(librdkafka_config(self.settings), self._items)
        try:
            return {key.decode(errors="replace") for record in topic.up_to_now() if (key := record.key())}
        except KafkaException as exc:
            raise StartError(f"The topic {self._items} cannot be read: {exc.args[0].str()}.") from exc
        finally:
            topic.close()

    def _produce(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        partition: int,
        headers: list[tuple[str, bytes]] | None,
        on_delivery: Callable[[Any, Message], None],
    ) -> None:
        give_up = time.monotonic() + _SECONDS
        while True:
            try:
                self._producer.produce(topic, value, key or None, partition, headers=headers, on_delivery=on_delivery)
            except BufferError as exc:  # the queue is full: this is the backpressure
                if self._producer.poll(0.1) == 0 and time.monotonic() > give_up:
                    raise StartError("Kafka takes no events; is it running? Replay again with --resume.") from exc
            except KafkaException as exc:
                self.done.refuse(exc.args[0].str())
                return
            else:
                return

    def _delivered(self, position: int, error: Any, message: Message) -> None:  # noqa: ANN401 - librdkafka's
        if error is not None:
            self.done.refuse(error.str())
            return
        self.done.acknowledged += 1
        self.done.points[int(message.partition() or 0)] = (position, int(message.offset() or 0))

    def _item_delivered(self, error: Any, _message: Message) -> None:  # noqa: ANN401 - librdkafka's
        if error is not None:
            self.done.refuse(error.str())
        else:
            self.done.items_acknowledged += 1
