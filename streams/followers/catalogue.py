"""items, rows -> catalogue: followed from the beginning of both topics by a thread."""

from collections.abc import Iterator
from threading import Event, Thread
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from streams.catalogue.catalogue import Catalogue
from streams.catalogue.item_records import read_item, read_row
from streams.errors import RejectedEventError, StartError
from streams.kafka.clients import librdkafka_config
from streams.settings import Settings

_BATCH: Final = 10_000


class CatalogueFollower:
    """Keeps a Catalogue up to date in a thread of its own."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._rows = settings.topics.rows
        self._items = settings.topics.items
        self._consumer = Consumer(
            librdkafka_config(
                settings,
                group_id=settings.topics.named("catalogue"),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=20,
            )
        )
        self._caught_up = Event()
        self._running = True
        self._thread = Thread(target=self._follow, name="catalogue", daemon=True)

    def start(self, timeout_seconds: float = 30.0) -> None:
        """Begin, and return when everything that is in the topics now has been read.

        Raises:
            StartError: Kafka does not answer in time.
        """
        try:
            positions = [TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in (self._rows, self._items)]
            self._ends = {p.topic: self._consumer.get_watermark_offsets(p, timeout_seconds)[1] for p in positions}
        except KafkaException as exc:
            raise StartError(f"The topics {self._rows} and {self._items} cannot be read: {exc.args[0].str()}.") from exc
        self._consumer.assign(positions)
        self._thread.start()
        if not self._caught_up.wait(timeout_seconds):
            raise StartError(f"Reading the catalogue took more than {timeout_seconds:.0f} s; check the brokers.")

    def stop(self) -> None:
        """End the thread."""
        self._running = False
        self._thread.join(5.0)
        self._consumer.close()

    def _follow(self) -> None:
        left = {topic for topic, end in self._ends.items() if end > 0}
        while self._running:
            if not left:
                self._caught_up.set()
            for record in self._records():
                self._apply(record)
                if record.offset() + 1 >= self._ends[record.topic()]:
                    left.discard(record.topic())
            if left:
                left -= self._reached()

    def _records(self) -> Iterator[Message]:
        for record in self._consumer.consume(_BATCH, 0.1 if not self._caught_up.is_set() else 0.25):
            if record.error() is None:
                yield record

    def _reached(self) -> set[str]:
        """Topics whose end is reached although their last records were compacted away."""
        positions = self._consumer.position([TopicPartition(topic, 0) for topic in self._ends])
        return {p.topic for p in positions if p.offset >= self._ends[p.topic]}

    def _apply(self, record: Message) -> None:
        if record.topic() == self._rows:
            if item_id := read_row(record.key()):
                self.catalogue.add_row(item_id)
            return
        try:
            self.catalogue.describe(*read_item(record.key(), record.value()))
        except RejectedEventError:
            return  # the agent that adds items dead-letters it
