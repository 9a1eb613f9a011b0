"""rows -> row numbers: the learner's view of which item has which row, read to the end whenever an id is unknown."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import Producer

from streams.catalogue.item_records import read_row
from streams.catalogue.rows import Rows
from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.readable_topic import ReadableTopic
from streams.settings import Settings

_SECONDS: Final = 20.0
_BATCH: Final = 10_000
"""Rows that Kafka takes within these seconds: there is no deadline for all of them, and librdkafka holds 100,000."""


class RowLog:
    """Rows by item id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Rows()
        self._topic = ReadableTopic(librdkafka_config(settings), settings.topics.rows)

    @property
    def rows(self) -> int:
        """Size of an item table for all items, row 0 included."""
        return len(self._catalogue.ids)

    def of(self, item_ids: Iterable[str]) -> list[int]:
        """Return the row of each item; 0 for one that the log does not hold, which a worker never sends."""
        known = self._catalogue.rows
        wanted = list(item_ids)
        if any(item_id not in known for item_id in wanted):
            self.catch_up()
        return [known.get(item_id, 0) for item_id in wanted]

    def catch_up(self) -> None:
        """Read up to what can be read of the log now.

        Raises:
            StartError: Kafka gives nothing more of it.
        """
        for record in self._topic.up_to_now():
            if item_id := read_row(record.key()):
                self._catalogue.add_row(item_id)

    def append(self, item_ids: Iterable[str]) -> None:
        """Give items a row that have none, as a worker does.

        Raises:
            StartError: Kafka does not acknowledge them.
        """
        self.catch_up()
        wanted = dict.fromkeys(item_ids)
        new = [item_id for item_id in wanted if item_id not in self._catalogue.rows]
        producer = Producer(librdkafka_config(self._settings, enable_idempotence=True, linger_ms=20))
        for start in range(0, len(new), _BATCH):
            for item_id in new[start : start + _BATCH]:
                producer.produce(self._topic.topic, b"{}", item_id.encode(), 0)
            if producer.flush(_SECONDS):
                raise self._refused()
        self.catch_up()
        if any(item_id not in self._catalogue.rows for item_id in new):
            raise self._refused()

    def close(self) -> None:
        """Let go of the connection."""
        self._topic.close()

    def _refused(self) -> StartError:
        return StartError(f"Kafka at {self._settings.broker} does not take the rows of new items; check the broker.")
